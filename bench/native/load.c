/* load.c - a closed-loop client of chat completions, buffered and streamed (one thread, epoll).
 *
 *   load -p PORT [-c CONNECTIONS] [-n TOTAL | -d SECONDS] [-s] [-t MAX_TOKENS] [-m MODEL] [-P PATH]
 *        [-k KEY | -F FILE] [-H 'Header: value']... [-r RAMP] [-a EVENTS] [-B BYTES] [-C]
 *
 *   -s  ask for streams          -r  open at most so many connections a second     -C  a new connection for each request
 *   -B  so much longer prompts   -a  leave a stream after so many events           -F  keys of one length, one a line,
 *                                                                                      used in turn, request by request
 * Prints one JSON object; times in microseconds. "lag" is the time from the mock's writing of an event to its arrival here.
 * "errors" are requests that got no whole reply, "non200" whole replies of another status; "first_error" tells the first.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"
#include "reply.h"

#define SILENCE_NS 20000000000ull /* nothing at all for so long: what is under way has failed */
#define LATE_NS 15000000000ull    /* not finished so long after -d SECONDS: failed */

typedef struct conn {
    int fd, counted_open, events;
    enum { IDLE, CONNECTING, SENDING, READING } state;
    const char *key;
    size_t sent;
    uint64_t started, last_event, now;
    reply reply;
} conn;

static struct {
    int port, connections, stream, max_tokens, leave_after, keep_alive, padding, n_headers;
    long total;
    double seconds, ramp;
    const char *key, *keys_file, *path, *model, *headers[16];
} opt = {.port = 18000, .connections = 1, .max_tokens = 100, .keep_alive = 1, .total = -1, .key = "", .path = "/v1/chat/completions", .model = "mock"};

static char **keys;
static size_t n_keys, key_len, key_at;
static char *request;
static size_t request_len;
static struct sockaddr_in target;
static int poll_fd, in_flight, open_now, most_open;
static uint64_t issued, done, errors, non200, with_done, with_usage, left_early, events, connects, began, ends;
static char first_error[400];
static histogram latency, first_event, gap, lag;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void complain(const char *what, const char *detail) {
    if (!first_error[0]) snprintf(first_error, sizeof first_error, "%s %.300s", what, detail);
}

static int more_to_do(void) {
    if (opt.total >= 0 && issued >= (uint64_t)opt.total) return 0;
    return opt.seconds <= 0 || now_ns() < ends;
}

static void watch(conn *c, uint32_t what, int operation) {
    struct epoll_event e = {.events = what, .data.ptr = c};
    epoll_ctl(poll_fd, operation, c->fd, &e);
}

static void hang_up(conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static void begin(conn *c);

static void finish(conn *c, const char *failure, const char *detail) {
    in_flight--;
    open_now -= c->counted_open;
    if (failure) {
        errors++;
        complain(failure, detail);
    } else {
        done++;
    }
    if (failure || c->reply.close_after || !opt.keep_alive) hang_up(c);
    c->state = IDLE;
    if (more_to_do()) begin(c);
    else hang_up(c);
}

static void send_request(conn *c) {
    if (c->key) memcpy(request + key_at, c->key, key_len); /* each time: others used the template meanwhile */
    while (c->sent < request_len) {
        ssize_t n = send(c->fd, request + c->sent, request_len - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
            else finish(c, "send:", strerror(errno));
            return;
        }
        c->sent += (size_t)n;
    }
    c->state = READING;
    watch(c, EPOLLIN, EPOLL_CTL_MOD);
}

static void begin(conn *c) {
    if (n_keys) c->key = keys[issued % n_keys];
    issued++;
    in_flight++;
    c->sent = 0;
    c->counted_open = c->events = 0;
    c->last_event = 0;
    c->started = now_ns();
    reply_start(&c->reply);
    if (c->fd >= 0) {
        c->state = SENDING;
        send_request(c);
        return;
    }
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) { /* no retry by finish(): without a descriptor it would call itself for ever */
        in_flight--;
        errors++;
        complain("socket:", strerror(errno));
        return;
    }
    connects++;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    int r = connect(c->fd, (void *)&target, sizeof target);
    c->state = CONNECTING;
    watch(c, EPOLLOUT, EPOLL_CTL_ADD);
    if (r < 0 && errno != EINPROGRESS) finish(c, "connect:", strerror(errno));
}

static void got_event(void *who, double us) {
    conn *c = who;
    histogram_add(&lag, us);
    events++;
    c->events++;
    if (!c->last_event) {
        histogram_add(&first_event, (double)(c->now - c->started) / 1e3);
        c->counted_open = 1;
        if (++open_now > most_open) most_open = open_now;
    } else {
        histogram_add(&gap, (double)(c->now - c->last_event) / 1e3);
    }
    c->last_event = c->now;
}

static void complete(conn *c) {
    histogram_add(&latency, (double)(now_ns() - c->started) / 1e3);
    if (c->reply.status != 200) {
        non200++;
        complain("status", c->reply.head + 9);
    }
    with_done += (uint64_t)c->reply.saw_done;
    with_usage += (uint64_t)c->reply.saw_usage;
    finish(c, NULL, NULL);
}

static void lost(conn *c, ssize_t n) {
    if (n == 0 && c->reply.head_done && !c->reply.chunked && c->reply.length < 0) {
        complete(c); /* the end of the connection is the end of such a reply */
    } else if (n == 0 && !c->reply.head_len && opt.keep_alive && c->sent == request_len && connects && c->state == READING && done) {
        in_flight--; /* an idle kept connection was closed under us: the same request again, on a new one */
        issued--;
        hang_up(c);
        begin(c);
    } else {
        finish(c, n == 0 ? "closed early" : "recv:", n == 0 ? "" : strerror(errno));
    }
}

static void readable(conn *c) {
    static char buffer[262144];
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        lost(c, n);
        return;
    }
    c->now = now_ns();
    enum reply_state s = reply_feed(&c->reply, buffer, (size_t)n, c->now, opt.stream, got_event, c);
    if (s == REPLY_BROKEN) {
        finish(c, "the reply's head is too long", "");
    } else if (s == REPLY_COMPLETE) {
        complete(c);
    } else if (opt.leave_after && c->events >= opt.leave_after) {
        left_early++;
        c->reply.close_after = 1;
        finish(c, NULL, NULL);
    }
}

static void act(conn *c, uint32_t what) {
    if (c->fd < 0) return;
    if (c->state == CONNECTING) {
        int e = 0;
        socklen_t len = sizeof e;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &len);
        if (e) {
            finish(c, "connect:", strerror(e));
            return;
        }
        c->state = SENDING;
        send_request(c);
    } else if (c->state == SENDING && (what & EPOLLOUT)) {
        send_request(c);
    } else {
        readable(c);
    }
}

static void read_keys(void) {
    char line[512];
    FILE *f = opt.keys_file ? fopen(opt.keys_file, "r") : NULL;
    if (opt.keys_file && !f) {
        perror(opt.keys_file);
        exit(2);
    }
    keys = calloc(100000, sizeof *keys);
    if (!f && *opt.key) keys[n_keys++] = strdup(opt.key);
    while (f && n_keys < 100000 && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\r\n")] = 0;
        if (*line) keys[n_keys++] = strdup(line);
    }
    if (f) fclose(f);
    if (n_keys) key_len = strlen(keys[0]);
    for (size_t i = 0; i < n_keys; i++)
        if (strlen(keys[i]) != key_len) {
            fprintf(stderr, "%s: the keys are not of one length\n", opt.keys_file);
            exit(2);
        }
}

static void write_request(void) {
    char *padding = malloc((size_t)opt.padding + 1), *body;
    memset(padding, 'x', (size_t)opt.padding);
    padding[opt.padding] = 0;
    int body_len = asprintf(&body,
                            "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"},{\"role\":\"user\","
                            "\"content\":\"Tell me a short joke about gateways, please.%s\"}],\"max_tokens\": %d%s}",
                            opt.model, padding, opt.max_tokens, opt.stream ? ",\"stream\":true,\"stream_options\":{\"include_usage\":true}" : "");
    size_t len;
    FILE *f = open_memstream(&request, &len);
    fprintf(f, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: load/1\r\nAccept: */*\r\nContent-Type: application/json\r\n", opt.path, opt.port);
    if (n_keys) {
        fprintf(f, "Authorization: Bearer ");
        fflush(f);
        key_at = len;
        fprintf(f, "%s\r\n", keys[0]);
    }
    for (int i = 0; i < opt.n_headers; i++) fprintf(f, "%s\r\n", opt.headers[i]);
    if (!opt.keep_alive) fprintf(f, "Connection: close\r\n");
    fprintf(f, "Content-Length: %d\r\n\r\n%s", body_len, body);
    fclose(f);
    request_len = len;
    free(padding);
    free(body);
}

static void run(conn *all) {
    struct epoll_event ready[1024];
    int opened = 0;
    uint64_t last_act = began = now_ns();
    ends = began + (uint64_t)(opt.seconds * 1e9);
    for (;;) {
        uint64_t t = now_ns();
        while (opened < opt.connections && more_to_do() && (opt.ramp <= 0 || opened < (double)(t - began) / 1e9 * opt.ramp + 1)) begin(&all[opened++]);
        if (!in_flight && (opened >= opt.connections || !more_to_do())) return;
        int late = opt.seconds > 0 && t > ends + LATE_NS, silent = t > last_act + SILENCE_NS;
        if (late || silent) {
            errors += (uint64_t)in_flight;
            complain(late ? "not finished long after the end" : "silence for 20 s", "");
            return;
        }
        int n = epoll_wait(poll_fd, ready, 1024, opened < opt.connections && opt.ramp > 0 ? 1 : 100);
        if (n > 0) last_act = now_ns();
        for (int i = 0; i < n; i++) act(ready[i].data.ptr, ready[i].events);
    }
}

static void print_result(void) {
    double elapsed = (double)(now_ns() - began) / 1e9;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"done\":%llu,\"errors\":%llu,\"non200\":%llu,\"elapsed\":%.3f,\"rate\":%.1f", (unsigned long long)done, (unsigned long long)errors, (unsigned long long)non200, elapsed,
           (double)done / elapsed);
    struct {
        const char *name;
        histogram *h;
    } all[] = {{"latency", &latency}, {"first", &first_event}, {"gap", &gap}, {"lag", &lag}};
    for (int i = 0; i < (opt.stream ? 4 : 1); i++)
        printf(",\"%s_p50\":%.1f,\"%s_p99\":%.1f,\"%s_max\":%.0f", all[i].name, histogram_quantile(all[i].h, .5), all[i].name, histogram_quantile(all[i].h, .99), all[i].name,
               all[i].h->largest);
    if (opt.stream)
        printf(",\"events\":%llu,\"most_open\":%d,\"with_done\":%llu,\"with_usage\":%llu,\"left_early\":%llu", (unsigned long long)events, most_open, (unsigned long long)with_done,
               (unsigned long long)with_usage, (unsigned long long)left_early);
    for (char *c = first_error; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < 32) *c = ' ';
    printf(",\"connections\":%llu,\"own_cpu\":%.3f,\"first_error\":\"%s\"}\n", (unsigned long long)connects,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6, first_error);
}

int main(int argc, char **argv) {
    int o;
    while ((o = getopt(argc, argv, "p:c:n:d:st:k:P:m:H:r:a:CB:F:")) > 0) switch (o) {
        case 'p': opt.port = atoi(optarg); break;
        case 'c': opt.connections = atoi(optarg); break;
        case 'n': opt.total = atol(optarg); break;
        case 'd': opt.seconds = atof(optarg); break;
        case 's': opt.stream = 1; break;
        case 't': opt.max_tokens = atoi(optarg); break;
        case 'k': opt.key = optarg; break;
        case 'P': opt.path = optarg; break;
        case 'm': opt.model = optarg; break;
        case 'H':
            if (opt.n_headers < 16) opt.headers[opt.n_headers++] = optarg;
            break;
        case 'r': opt.ramp = atof(optarg); break;
        case 'a': opt.leave_after = atoi(optarg); break;
        case 'C': opt.keep_alive = 0; break;
        case 'B': opt.padding = atoi(optarg); break;
        case 'F': opt.keys_file = optarg; break;
        default: return 2;
        }
    if (opt.total < 0 && opt.seconds <= 0) {
        fprintf(stderr, "load: give -n TOTAL or -d SECONDS\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    target = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    read_keys();
    write_request();
    poll_fd = epoll_create1(0);
    conn *all = calloc((size_t)opt.connections, sizeof *all);
    for (int i = 0; i < opt.connections; i++) all[i].fd = -1;
    run(all);
    print_result();
    return 0;
}
