/* reply.c - see reply.h. Trusts nothing about where the network cuts: sizes, stamps and words may straddle two reads. */
#define _GNU_SOURCE
#include "reply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define STAMP 18 /* "@", 16 digits, "@" */
#define STAMP_MODULUS 10000000000000000ull

void reply_start(reply *r) {
    r->head_len = r->tail_len = r->chunk_left = 0;
    r->head_done = r->status = r->chunked = r->close_after = r->in_extension = 0;
    r->events = r->saw_done = r->saw_usage = 0;
    r->length = r->left = -1;
    r->framing = SIZE_LINE;
}

static double lag_us(uint64_t now, const char *digits) {
    uint64_t sent = strtoull(digits, NULL, 10), here = now % STAMP_MODULUS;
    return (double)((here + STAMP_MODULUS - sent) % STAMP_MODULUS) / 1e3;
}

/* Body bytes, framing already removed. */
static void read_events(reply *r, const char *p, size_t n, uint64_t now, reply_event *on_event, void *who) {
    static char *text;
    static size_t capacity;
    if (capacity < r->tail_len + n + 1) {
        capacity = 2 * (r->tail_len + n + 1);
        text = realloc(text, capacity);
        if (!text) abort();
    }
    memcpy(text, r->tail, r->tail_len);
    memcpy(text + r->tail_len, p, n);
    size_t len = r->tail_len + n;
    text[len] = 0;

    char *at = text, *end = text + len, *keep = len > 16 ? end - 16 : text;
    while ((at = memchr(at, '@', (size_t)(end - at)))) {
        if (end - at < STAMP) { /* cut in two: it is kept whole for the next read */
            if (at < keep) keep = at;
            break;
        }
        if (at[STAMP - 1] == '@') {
            r->events++;
            on_event(who, lag_us(now, at + 1));
            at += STAMP;
            if (keep < at) keep = at; /* or it would be counted again */
        } else {
            at++;
        }
    }
    if (memmem(text, len, "\"usage\":{", 9) || memmem(text, len, "\"usage\": {", 10)) r->saw_usage = 1;
    if (memmem(text, len, "[DONE]", 6)) r->saw_done = 1;
    r->tail_len = (size_t)(end - keep);
    memcpy(r->tail, keep, r->tail_len);
}

static enum reply_state read_head(reply *r, const char *p, size_t n, size_t *used) {
    size_t old = r->head_len, room = sizeof r->head - 1 - old;
    if (n > room) n = room;
    memcpy(r->head + old, p, n);
    r->head_len += n;
    r->head[r->head_len] = 0;
    char *end = strstr(r->head, "\r\n\r\n");
    if (!end) {
        *used = n;
        return n == room ? REPLY_BROKEN : REPLY_MORE;
    }
    *used = (size_t)(end + 4 - r->head) - old;
    r->head_done = 1;
    r->status = r->head_len > 12 ? atoi(r->head + 9) : 0;
    r->close_after = !strncmp(r->head, "HTTP/1.0", 8);
    for (char *line = strstr(r->head, "\r\n"); line && line < end; line = strstr(line, "\r\n")) {
        line += 2;
        if (!strncasecmp(line, "content-length:", 15)) r->length = r->left = atol(line + 15);
        else if (!strncasecmp(line, "transfer-encoding:", 18)) r->chunked = 1;
        else if (!strncasecmp(line, "connection: close", 17)) r->close_after = 1;
    }
    if (!r->chunked && r->length < 0) r->close_after = 1;
    return !r->chunked && r->length == 0 ? REPLY_COMPLETE : REPLY_MORE;
}

static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte of framing. 1: the reply is complete. */
static int read_framing(reply *r, char c) {
    switch (r->framing) {
    case SIZE_LINE:
        if (c == '\n') {
            r->framing = r->chunk_left ? DATA : LAST_LINE;
            r->in_extension = 0;
        } else if (c == ';') {
            r->in_extension = 1;
        } else if (!r->in_extension && digit(c) >= 0) {
            r->chunk_left = r->chunk_left * 16 + (size_t)digit(c);
        }
        return 0;
    case DATA_END:
        if (c == '\n') r->framing = SIZE_LINE;
        return 0;
    default: return c == '\n';
    }
}

enum reply_state reply_feed(reply *r, const char *p, size_t n, uint64_t now, int stream, reply_event *on_event, void *who) {
    if (!r->head_done) {
        size_t used;
        enum reply_state s = read_head(r, p, n, &used);
        if (s != REPLY_MORE) return s;
        p += used;
        n -= used;
    }
    if (!n) return REPLY_MORE;
    if (!r->chunked) {
        if (stream) read_events(r, p, n, now, on_event, who);
        if (r->length < 0) return REPLY_MORE;
        r->left -= (long)n;
        return r->left <= 0 ? REPLY_COMPLETE : REPLY_MORE;
    }
    while (n) {
        if (r->framing == DATA) {
            size_t k = n < r->chunk_left ? n : r->chunk_left;
            if (stream) read_events(r, p, k, now, on_event, who);
            p += k;
            n -= k;
            r->chunk_left -= k;
            if (!r->chunk_left) r->framing = DATA_END;
        } else {
            n--;
            if (read_framing(r, *p++)) return REPLY_COMPLETE;
        }
    }
    return REPLY_MORE;
}
