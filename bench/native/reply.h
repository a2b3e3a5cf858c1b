/* reply.h - reads one HTTP/1.1 reply as it comes in pieces: head, length or chunked framing, and the events within. */
#ifndef REPLY_H
#define REPLY_H
#include <stddef.h>
#include <stdint.h>

enum reply_state { REPLY_MORE, REPLY_COMPLETE, REPLY_BROKEN };

typedef struct reply {
    char head[8192];
    size_t head_len;
    int head_done, status, chunked, close_after;
    long length, left; /* of a reply that is not chunked; -1: until the connection ends */
    enum { SIZE_LINE, DATA, DATA_END, LAST_LINE } framing;
    int in_extension;
    size_t chunk_left;
    char tail[128]; /* what may be the beginning of a word cut in two by the network */
    size_t tail_len;
    int events, saw_done, saw_usage;
} reply;

/* Called once for each event of a stream: how long it took from the mock to here, in microseconds. */
typedef void reply_event(void *who, double lag_us);

void reply_start(reply *r);
/* Take n bytes. `now` is CLOCK_MONOTONIC in ns. In a stream every event is told to `on_event`. */
enum reply_state reply_feed(reply *r, const char *p, size_t n, uint64_t now, int stream, reply_event *on_event, void *who);
#endif
