/* mock.c - a stand-in for Ollama's OpenAI-compatible API that is never the bottleneck (one thread, epoll).
 *
 *   mock [-p PORT] [-d DELAY_US] [-f FIRST_US] [-o]
 *
 *   POST (any path)   "stream":true -> server-sent events, one HTTP chunk per event, as Go's net/http writes them
 *                     otherwise     -> one JSON body of about 330 bytes
 *                     "max_tokens":N is the number of content events of a stream (100 without it)
 *   GET  /__set?delay_us=X&first_us=Y&old=0|1   pacing and dialect of the requests that follow
 *   GET  /__stats                               counters, to prove what really arrived here
 *   GET  /__gaps[?forget=1]                     from a stream's end to the next request where nothing else ran: how long a
 *                                               gateway leaves the only slot of a server empty while somebody waits for it
 *   GET  anything else                          the lists and the version that Ollama tells
 *
 * Each event's text is "@<16 digits>@": CLOCK_MONOTONIC in nanoseconds, modulo 10^16, so that a client on the same machine
 * can tell how long that very event took to reach it. -o speaks the dialect of Ollama up to 0.32.5: the role in every delta
 * and the finish_reason in a delta with an empty text; from 0.32.6 the role comes once and the last delta is {}.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 65536
#define STAMP_MODULUS 10000000000000000ull
#define MAX_GAPS 10000
#define SLOW_READER (256 * 1024) /* more than this unsent: the stream waits */
#define CHUNK_HEAD "data: {\"id\":\"chatcmpl-423\",\"object\":\"chat.completion.chunk\",\"created\":1763700000,\"model\":\"mock\",\"system_fingerprint\":\"fp_ollama\","

typedef struct bytes {
    char *at;
    size_t len, cap;
} bytes;

typedef struct conn {
    int fd;
    int streaming, wants_usage, old_dialect;
    int events_left, events_sent;
    int queued, dead; /* a dead connection is freed once no queue holds it */
    uint64_t due;     /* when the next event is to leave, ns */
    bytes in, out;
    struct conn *next;
} conn;

/* Two queues are enough for all timers: whatever enters one waits equally long, so each is in order by itself. */
typedef struct queue {
    conn *head, *tail;
} queue;

static queue first_events, next_events;
static conn *by_fd[MAX_FD];
static int poll_fd;
static uint64_t delay_us, first_us;
static int old_dialect;
static uint64_t requests, streams, aborted, events, accepted;
static int open_now, streaming_now;
static uint64_t stream_ended, gaps[MAX_GAPS];
static int gap_count;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void reserve(bytes *b, size_t room) {
    if (b->cap - b->len >= room) return;
    b->cap = (b->len + room) * 2;
    b->at = realloc(b->at, b->cap);
    if (!b->at) abort();
}

static void append(bytes *b, const char *p, size_t n) {
    reserve(b, n);
    memcpy(b->at + b->len, p, n);
    b->len += n;
}

static void discard(bytes *b, size_t n) {
    memmove(b->at, b->at + n, b->len - n);
    b->len -= n;
}

static char *find(char *in, size_t n, const char *what) {
    return memmem(in, n, what, strlen(what));
}

static void enqueue(queue *q, conn *c, uint64_t due) {
    c->due = due;
    c->next = NULL;
    c->queued = 1;
    if (q->tail) q->tail->next = c;
    else q->head = c;
    q->tail = c;
}

static conn *dequeue(queue *q) {
    conn *c = q->head;
    q->head = c->next;
    if (!q->head) q->tail = NULL;
    c->queued = 0;
    return c;
}

static void watch(conn *c, int writable) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | (writable ? EPOLLOUT : 0), .data.fd = c->fd};
    epoll_ctl(poll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

static void drop(conn *c) {
    if (c->streaming) {
        aborted++;
        streaming_now--;
    }
    by_fd[c->fd] = NULL;
    close(c->fd);
    open_now--;
    free(c->in.at);
    free(c->out.at);
    c->dead = 1;
    if (!c->queued) free(c);
}

/* 0: all is sent or waits for room; -1: the connection is gone. */
static int flush_out(conn *c) {
    while (c->out.len) {
        ssize_t n = send(c->fd, c->out.at, c->out.len, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) {
                watch(c, 1);
                return 0;
            }
            drop(c);
            return -1;
        }
        discard(&c->out, (size_t)n);
    }
    return 0;
}

static void send_event(conn *c, const char *event, int n) {
    char size[16];
    append(&c->out, size, (size_t)sprintf(size, "%x\r\n", n));
    append(&c->out, event, (size_t)n);
    append(&c->out, "\r\n", 2);
}

static void end_stream(conn *c) {
    char e[512];
    const char *last = c->old_dialect ? "{\"role\":\"assistant\",\"content\":\"\"}" : "{}";
    send_event(c, e, sprintf(e, CHUNK_HEAD "\"choices\":[{\"index\":0,\"delta\":%s,\"finish_reason\":\"stop\"}]}\n\n", last));
    if (c->wants_usage)
        send_event(c, e, sprintf(e, CHUNK_HEAD "\"choices\":[],\"usage\":{\"prompt_tokens\":26,\"completion_tokens\":%d,\"total_tokens\":%d}}\n\n", c->events_sent, 26 + c->events_sent));
    send_event(c, "data: [DONE]\n\n", 14);
    append(&c->out, "0\r\n\r\n", 5);
    c->streaming = 0;
    streaming_now--;
    stream_ended = now_ns();
}

/* The stream's next event; after the last one also its end. */
static void advance(conn *c) {
    char e[512];
    const char *role = c->old_dialect || !c->events_sent ? "\"role\":\"assistant\"," : "";
    unsigned long long stamp = now_ns() % STAMP_MODULUS;
    send_event(c, e, sprintf(e, CHUNK_HEAD "\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\"@%016llu@\"},\"finish_reason\":null}]}\n\n", role, stamp));
    events++;
    c->events_sent++;
    if (--c->events_left == 0) end_stream(c);
}

static void begin_stream(conn *c, int wanted, int usage) {
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nDate: Fri, 21 Nov 2025 07:00:00 GMT\r\nTransfer-Encoding: chunked\r\n\r\n";
    append(&c->out, head, sizeof head - 1);
    streams++;
    streaming_now++;
    c->streaming = 1;
    c->events_left = wanted > 0 ? wanted : 1;
    c->events_sent = 0;
    c->wants_usage = usage;
    c->old_dialect = old_dialect;
    if (first_us) {
        enqueue(&first_events, c, now_ns() + first_us * 1000);
        return;
    }
    do advance(c);
    while (c->streaming && !delay_us);
    if (c->streaming) enqueue(&next_events, c, now_ns() + delay_us * 1000);
}

static void send_json(conn *c, const char *body, size_t n) {
    char head[200];
    append(&c->out, head, (size_t)sprintf(head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Fri, 21 Nov 2025 07:00:00 GMT\r\nContent-Length: %zu\r\n\r\n", n));
    append(&c->out, body, n);
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void tell_gaps(char *b) {
    qsort(gaps, (size_t)gap_count, sizeof *gaps, by_size);
    unsigned long long median = gap_count ? gaps[gap_count / 2] : 0, p95 = gap_count ? gaps[gap_count * 95 / 100] : 0;
    sprintf(b, "{\"count\":%d,\"p50_ns\":%llu,\"p95_ns\":%llu}", gap_count, median, p95);
}

static void answer_get(conn *c, char *head, size_t n) {
    char b[512];
    const char *path = head + 4;
    if (!strncmp(path, "/__stats", 8)) {
        sprintf(b, "{\"requests\":%llu,\"streams\":%llu,\"aborted\":%llu,\"events\":%llu,\"accepted\":%llu,\"open\":%d,\"streaming\":%d}", (unsigned long long)requests,
                (unsigned long long)streams, (unsigned long long)aborted, (unsigned long long)events, (unsigned long long)accepted, open_now, streaming_now);
    } else if (!strncmp(path, "/__gaps", 7)) {
        if (find(head, n, "forget=1")) {
            stream_ended = 0;
            gap_count = 0;
        }
        tell_gaps(b);
    } else if (!strncmp(path, "/__set", 6)) {
        char *x;
        if ((x = find(head, n, "delay_us="))) delay_us = strtoull(x + 9, NULL, 10);
        if ((x = find(head, n, "first_us="))) first_us = strtoull(x + 9, NULL, 10);
        if ((x = find(head, n, "old="))) old_dialect = atoi(x + 4);
        sprintf(b, "{\"delay_us\":%llu,\"first_us\":%llu,\"old\":%d}", (unsigned long long)delay_us, (unsigned long long)first_us, old_dialect);
    } else if (!strncmp(path, "/api/version", 12)) {
        sprintf(b, "{\"version\":\"%s\"}", old_dialect ? "0.32.5" : "0.32.6");
    } else if (!strncmp(path, "/api/tags", 9)) {
        strcpy(b, "{\"models\":[{\"name\":\"mock\",\"model\":\"mock\",\"modified_at\":\"2025-11-21T07:00:00Z\",\"size\":1,\"digest\":\"0\",\"details\":{\"family\":\"mock\"}}]}");
    } else {
        strcpy(b, "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"created\":1763700000,\"owned_by\":\"library\"}]}");
    }
    send_json(c, b, strlen(b));
}

static void answer_post(conn *c, char *body, size_t n) {
    if (stream_ended && !streaming_now && gap_count < MAX_GAPS) gaps[gap_count++] = now_ns() - stream_ended;
    static const char plain[] =
        "{\"id\":\"chatcmpl-423\",\"object\":\"chat.completion\",\"created\":1763700000,\"model\":\"mock\",\"system_fingerprint\":\"fp_ollama\",\"choices\":[{\"index\":0,"
        "\"message\":{\"role\":\"assistant\",\"content\":\"Why did the gateway cross the road? To meter the other side.\"},\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":26,\"completion_tokens\":16,\"total_tokens\":42}}\n";
    if (!find(body, n, "\"stream\":true") && !find(body, n, "\"stream\": true")) {
        send_json(c, plain, sizeof plain - 1);
        return;
    }
    char *limit = find(body, n, "\"max_tokens\":");
    begin_stream(c, limit ? atoi(limit + 13) : 100, find(body, n, "\"include_usage\":true") || find(body, n, "\"include_usage\": true"));
}

/* 1: one whole request was taken from the input and answered. */
static int take_request(conn *c) {
    char *start = c->in.at, *end = find(start, c->in.len, "\r\n\r\n");
    if (!end) return 0;
    size_t head = (size_t)(end + 4 - start), body = 0;
    int chunked = 0;
    for (char *line = find(start, head, "\r\n") + 2; line < end; line = find(line, (size_t)(end + 2 - line), "\r\n") + 2) {
        if (!strncasecmp(line, "content-length:", 15)) body = strtoul(line + 15, NULL, 10);
        else if (!strncasecmp(line, "transfer-encoding:", 18)) chunked = 1;
    }
    if (chunked) {
        char *last = find(start + head, c->in.len - head, "0\r\n\r\n");
        if (!last) return 0;
        body = (size_t)(last + 5 - start) - head;
    }
    if (c->in.len < head + body) return 0;
    requests++;
    if (!strncmp(start, "GET ", 4)) answer_get(c, start, head);
    else answer_post(c, start + head, body);
    discard(&c->in, head + body);
    return 1;
}

static void run_queue(queue *q, uint64_t now) {
    while (q->head && q->head->due <= now) {
        conn *c = dequeue(q);
        if (c->dead) {
            free(c);
            continue;
        }
        if (c->out.len > SLOW_READER) {
            enqueue(&next_events, c, now + delay_us * 1000);
            continue;
        }
        do advance(c);
        while (c->streaming && !delay_us);
        if (flush_out(c)) continue;
        if (c->streaming) { /* from the due time on, not from now: a late event does not delay all that follow */
            uint64_t due = c->due + delay_us * 1000;
            enqueue(&next_events, c, due < now ? now : due);
        }
    }
}

static int wait_ms(void) {
    uint64_t now = now_ns(), due = UINT64_MAX;
    if (first_events.head) due = first_events.head->due;
    if (next_events.head && next_events.head->due < due) due = next_events.head->due;
    if (due == UINT64_MAX) return -1;
    return due <= now ? 0 : (int)((due - now + 999999) / 1000000);
}

static void accept_all(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MAX_FD) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        conn *c = calloc(1, sizeof *c);
        if (!c) abort();
        c->fd = fd;
        by_fd[fd] = c;
        open_now++;
        accepted++;
        struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = fd};
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &e);
    }
}

static void read_all(conn *c) {
    for (;;) {
        reserve(&c->in, 2048);
        size_t room = c->in.cap - c->in.len;
        ssize_t n = recv(c->fd, c->in.at + c->in.len, room, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            drop(c);
            return;
        }
        if (n > 0) c->in.len += (size_t)n;
        if (n < 0 || (size_t)n < room) break;
    }
    while (!c->streaming && take_request(c)) continue;
    flush_out(c);
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (void *)&a, sizeof a) || listen(fd, 8192)) {
        perror("mock: can't listen");
        exit(1);
    }
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &e);
    return fd;
}

int main(int argc, char **argv) {
    int port = 11500, option;
    while ((option = getopt(argc, argv, "p:d:f:o")) > 0) switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'd': delay_us = strtoull(optarg, NULL, 10); break;
        case 'f': first_us = strtoull(optarg, NULL, 10); break;
        case 'o': old_dialect = 1; break;
        default: return 2;
        }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    poll_fd = epoll_create1(0);
    int listener = listen_on(port);
    struct epoll_event ready[1024];
    for (;;) {
        int n = epoll_wait(poll_fd, ready, 1024, wait_ms());
        for (int i = 0; i < n; i++) {
            if (ready[i].data.fd == listener) {
                accept_all(listener);
                continue;
            }
            conn *c = by_fd[ready[i].data.fd];
            if (!c) continue; /* dropped earlier in this very turn */
            if (ready[i].events & EPOLLOUT) {
                watch(c, 0);
                if (flush_out(c)) continue;
            }
            if (ready[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) read_all(c);
        }
        uint64_t now = now_ns();
        run_queue(&first_events, now);
        run_queue(&next_events, now);
    }
}
