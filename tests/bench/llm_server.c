/* A language model server that is no bottleneck: the load benches' judge. One file, Linux, no libraries:
 *
 *     cc -O2 -o llm_server llm_server.c -lm && ./llm_server --port 0 --ttft 50ms --itl 10ms
 *
 * Speaks HTTP/1.1 with keep-alive: POST /v1/chat/completions and /v1/completions (streamed or whole), GET /v1/models,
 * /health, /stats, /truth (a line per request), /truth/summary (JSON), POST /reset. Latencies, and which request meets
 * which fault, depend on the seed, the body and how often that body came, so they are the same again. Times are
 * CLOCK_MONOTONIC, taken just before bytes are handed to the kernel.
 *
 *     --port N        0 takes a free one; the address is printed
 *     --ttft D --itl D    50ms, 200us, or lognormal:50ms:0.5 (median, sigma)
 *     --tokens N      length of an answer whose request does not say max_tokens (16)
 *     --per-chunk N   tokens in each event (1)
 *     --slots N       answers worked on at a time; the others wait (0: no bound)
 *     --freeze P/T    silent for the last P of every T
 *     --fault K=R     share R of requests: 500 429 reset truncated cut malformed stall error_event empty slow_header
 *     --stall D       how long stall and slow_header last (30s)
 *     --seed N        (0)
 *     --realtime      run before everything else on the machine, when that is allowed
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { OK, F500, F429, RESET, TRUNCATED, CUT, MALFORMED, STALL, ERROR_EVENT, EMPTY, SLOW_HEADER, ABORTED, N_ENDS };
#define TICK_S 100e-6

static const char *const END_NAMES[N_ENDS] = {"ok",    "500",         "429",   "reset",       "truncated", "cut", "malformed",
                                              "stall", "error_event", "empty", "slow_header", "aborted"};

typedef struct {
    double median_s, sigma;
} Latency;

typedef struct {
    double arrived, slot, first, last, end;
    uint32_t tokens, connection, tries;
    uint8_t outcome, fault, stream;
} Truth;

typedef struct {
    char *data;
    size_t len, cap;
} Buffer;

typedef struct Conn {
    int fd;
    uint32_t generation, number;
    bool busy, waiting, stream, chat, usage, wants_write, started, opened, paused;
    Buffer in, out;
    size_t out_sent;
    double due;
    uint64_t rng;
    uint32_t total, sent, break_at, prompt_tokens;
    Truth now;
    struct Conn *next; /* in line for a slot, or free */
} Conn;

typedef struct {
    double due;
    Conn *conn;
    uint32_t generation;
} Timer;

static Latency ttft, itl;
static uint32_t default_tokens = 16, per_chunk = 1, slots, running, waiting, n_connections, connections_open;
static double freeze_s, period_s, stall_s = 30.0, started_s;
static double fault_rates[N_ENDS];
static uint64_t seed;
static bool any_fault;
static int epoll_fd;

static Timer *heap;
static size_t heap_len, heap_cap;
static Truth *truths;
static size_t n_truths, truths_cap;
static float *gaps;
static size_t n_gaps, gaps_cap;
static uint64_t requests, counts[N_ENDS], fault_counts[N_ENDS], n_bytes, max_running;
static Conn *line_first, *line_last, *free_conns;

/* Bodies seen and how often: open addressing, grown when half full. */
static struct Seen {
    uint64_t hash;
    uint32_t tries;
} *seen;
static size_t seen_cap, n_seen;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *grown(void *old, size_t *cap, size_t need, size_t size) {
    if (need <= *cap) return old;
    size_t cap_new = *cap ? *cap : 64;
    while (cap_new < need) cap_new *= 2;
    void *data = realloc(old, cap_new * size);
    if (!data) {
        fputs("llm_server: out of memory\n", stderr);
        exit(1);
    }
    *cap = cap_new;
    return data;
}

static void add(Buffer *b, const void *data, size_t len) {
    b->data = grown(b->data, &b->cap, b->len + len + 1, 1);
    memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = 0;
}

static void addf(Buffer *b, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char text[1024];
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof text) exit(1);
    add(b, text, (size_t)len);
}

/* Randomness */

static uint64_t mix(uint64_t x) { /* splitmix64's finalizer */
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static double unit(uint64_t *state) {
    *state += 0x9e3779b97f4a7c15u;
    return (double)(mix(*state) >> 11) * 0x1p-53;
}

static double draw(Latency latency, uint64_t *state) {
    if (latency.sigma == 0) return latency.median_s;
    double u = 1.0 - unit(state), v = unit(state);
    return latency.median_s * exp(latency.sigma * sqrt(-2 * log(u)) * cos(2 * M_PI * v));
}

static uint64_t hash_of(const char *data, size_t len) {
    uint64_t h = 0x2545f4914f6cdd1du ^ len;
    for (; len >= 8; data += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        h = (h ^ word) * 0x9fb21c651e98df25u;
        h ^= h >> 32;
    }
    for (; len; data++, len--) h = (h ^ (uint8_t)*data) * 0x100000001b3u;
    return mix(h) | 1;
}

static uint32_t tries_of(uint64_t hash) {
    if (2 * (n_seen + 1) > seen_cap) {
        size_t cap = seen_cap ? 2 * seen_cap : 1 << 16;
        struct Seen *bigger = calloc(cap, sizeof *bigger);
        if (!bigger) exit(1);
        for (size_t i = 0; i < seen_cap; i++)
            if (seen[i].hash) {
                size_t at = seen[i].hash & (cap - 1);
                while (bigger[at].hash) at = (at + 1) & (cap - 1);
                bigger[at] = seen[i];
            }
        free(seen);
        seen = bigger;
        seen_cap = cap;
    }
    size_t at = hash & (seen_cap - 1);
    while (seen[at].hash && seen[at].hash != hash) at = (at + 1) & (seen_cap - 1);
    if (!seen[at].hash) {
        seen[at].hash = hash;
        n_seen++;
    }
    return ++seen[at].tries;
}

static uint8_t fault_for(uint64_t hash, uint32_t tries) {
    if (!any_fault) return OK;
    for (int kind = 1; kind < ABORTED; kind++) {
        uint64_t state = mix(seed ^ hash) ^ mix((uint64_t)kind << 32 | tries);
        if (fault_rates[kind] > 0 && unit(&state) < fault_rates[kind]) return (uint8_t)kind;
    }
    return OK;
}

/* Timers: a binary heap; those of ended answers are told by their generation. */

static void at(double due, Conn *conn) {
    heap = grown(heap, &heap_cap, heap_len + 1, sizeof *heap);
    size_t i = heap_len++;
    for (; i && heap[(i - 1) / 2].due > due; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = (Timer){due, conn, conn->generation};
}

static Timer pop(void) {
    Timer top = heap[0], last = heap[--heap_len];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= heap_len) break;
        if (child + 1 < heap_len && heap[child + 1].due < heap[child].due) child++;
        if (heap[child].due >= last.due) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

static double frozen_until(double now) {
    if (!period_s) return 0;
    double phase = fmod(now - started_s, period_s);
    return phase >= period_s - freeze_s ? now + period_s - phase : 0;
}

/* Bytes: everything that repeats is made once. */

static const char HEADER[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                             "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
static Buffer openings[2], chunk_frames[2][65], endings[2]; /* by [is chat] */
static struct {
    Buffer bytes;
    uint32_t tokens;
} streams[2]; /* the last whole stream */

static void add_event(Buffer *b, const char *event) {
    addf(b, "%zx\r\n", strlen(event));
    add(b, event, strlen(event));
    add(b, "\r\n", 2);
}

static void add_choice(Buffer *b, bool chat, const char *delta, const char *reason) {
    char event[2048];
    snprintf(event, sizeof event,
             "data: {\"id\":\"%s-0\",\"object\":\"%s\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{\"index\":0,"
             "\"%s\":%s,\"logprobs\":null,\"finish_reason\":%s}]}\n\n",
             chat ? "chatcmpl" : "cmpl", chat ? "chat.completion.chunk" : "text_completion", chat ? "delta" : "text", delta,
             reason);
    add_event(b, event);
}

static void add_words(Buffer *b, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) add(b, " tok", 4);
}

static void make_templates(void) {
    for (int chat = 0; chat < 2; chat++) {
        add(&openings[chat], HEADER, sizeof HEADER - 1);
        if (chat) add_choice(&openings[chat], true, "{\"role\":\"assistant\",\"content\":\"\"}", "null");
        for (uint32_t n = 1; n <= per_chunk; n++) {
            Buffer words = {0}, delta = {0};
            add_words(&words, n);
            addf(&delta, chat ? "{\"content\":\"%s\"}" : "\"%s\"", words.data);
            add_choice(&chunk_frames[chat][n], chat, delta.data, "null");
            free(words.data);
            free(delta.data);
        }
        add_choice(&endings[chat], chat, chat ? "{}" : "\"\"", "\"length\"");
    }
}

static void add_ending(Buffer *b, Conn *c, uint32_t tokens) {
    add(b, endings[c->chat].data, endings[c->chat].len);
    if (c->usage) {
        char event[512];
        snprintf(event, sizeof event,
                 "data: {\"id\":\"%s-0\",\"object\":\"%s\",\"created\":1700000000,\"model\":\"m\",\"choices\":[],\"usage\":"
                 "{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u}}\n\n",
                 c->chat ? "chatcmpl" : "cmpl", c->chat ? "chat.completion.chunk" : "text_completion", c->prompt_tokens,
                 tokens, c->prompt_tokens + tokens);
        add_event(b, event);
    }
    add_event(b, "data: [DONE]\n\n");
    add(b, "0\r\n\r\n", 5);
}

/* Connections */

static void parse(Conn *c);

static void watch(Conn *c, bool wants_write) {
    if (c->wants_write == wants_write) return;
    c->wants_write = wants_write;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (wants_write ? (uint32_t)EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

static void send_bytes(Conn *c, const char *data, size_t len) {
    n_bytes += len;
    if (c->out.len == c->out_sent) {
        ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
        if (n < 0) n = 0; /* full, or broken: reading tells which */
        data += n;
        len -= (size_t)n;
    }
    if (len) {
        add(&c->out, data, len);
        watch(c, true);
    }
}

static void give_slot(void);

static void end_answer(Conn *c, uint8_t outcome) {
    Truth *t = &c->now;
    t->end = now_s();
    t->outcome = outcome;
    counts[outcome]++;
    if (t->fault) fault_counts[t->fault]++;
    truths = grown(truths, &truths_cap, n_truths + 1, sizeof *truths);
    truths[n_truths++] = *t;
    c->busy = false;
    c->generation++;
    if (c->started) {
        c->started = false;
        running--;
        give_slot();
    }
}

static void drop(Conn *c, bool with_reset) {
    if (c->fd < 0) return;
    if (with_reset) {
        struct linger linger = {1, 0};
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    close(c->fd);
    c->fd = -1;
    connections_open--;
    if (c->waiting) { /* The line is walked only here. */
        Conn *before = NULL;
        for (Conn *one = line_first; one; before = one, one = one->next)
            if (one == c) {
                if (before) before->next = c->next;
                else line_first = c->next;
                if (line_last == c) line_last = before;
                break;
            }
        c->waiting = false;
        waiting--;
    }
    if (c->busy) end_answer(c, with_reset ? RESET : ABORTED);
    c->generation++;
    c->in.len = c->out.len = c->out_sent = 0;
    c->next = free_conns;
    free_conns = c;
}

static void wrote(Conn *c, uint32_t tokens) {
    double now = now_s();
    Truth *t = &c->now;
    if (!t->tokens) t->first = now;
    else if (tokens) {
        gaps = grown(gaps, &gaps_cap, n_gaps + tokens, sizeof *gaps);
        for (uint32_t i = 0; i < tokens; i++) gaps[n_gaps++] = (float)((now - t->last) / tokens);
    }
    t->last = now;
    t->tokens += tokens;
}

static void answer(Conn *c, const char *status, const char *type, const char *extra, const char *body, size_t len) {
    Buffer b = {0};
    addf(&b, "HTTP/1.1 %s\r\nContent-Type: %s\r\n%sContent-Length: %zu\r\n\r\n", status, type, extra, len);
    add(&b, body, len);
    send_bytes(c, b.data, b.len);
    free(b.data);
}

/* Answers */

static void send_whole(Conn *c) {
    uint8_t fault = c->now.fault;
    uint32_t n = fault == EMPTY ? 0 : c->total;
    Buffer text = {0}, b = {0};
    add_words(&text, fault == TRUNCATED ? n / 2 : n);
    if (fault == ERROR_EVENT) addf(&b, "{\"error\":{\"message\":\"told to fail\",\"type\":\"server_error\",\"code\":500}}");
    else {
        addf(&b, "{\"id\":\"x-0\",\"object\":\"%s\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{\"index\":0,",
             c->chat ? "chat.completion" : "text_completion");
        addf(&b, c->chat ? "\"message\":{\"role\":\"assistant\",\"content\":\"" : "\"text\":\"");
        add(&b, text.data ? text.data : "", text.len);
        addf(&b, c->chat ? "\"}," : "\",");
        if (fault == TRUNCATED) addf(&b, "\"finish_reason\":null}]}");
        else
            addf(&b, "\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u}}",
                 c->prompt_tokens, n, c->prompt_tokens + n);
    }
    free(text.data);
    if (fault == CUT || fault == RESET) {
        char head[128];
        int len = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", b.len);
        send_bytes(c, head, (size_t)len);
        send_bytes(c, b.data, b.len / 2);
        free(b.data);
        if (fault == CUT) end_answer(c, CUT);
        drop(c, fault == RESET);
        return;
    }
    if (fault == MALFORMED) b.len /= 2;
    if (n && fault != TRUNCATED && fault != MALFORMED && fault != ERROR_EVENT) wrote(c, n);
    answer(c, "200 OK", "application/json", "", b.data, b.len);
    free(b.data);
    end_answer(c, fault == STALL || fault == SLOW_HEADER ? OK : fault);
}

static void finish_stream(Conn *c) {
    Buffer b = {0};
    add_ending(&b, c, c->now.tokens);
    send_bytes(c, b.data, b.len);
    free(b.data);
    uint8_t fault = c->now.fault;
    end_answer(c, fault == STALL || fault == SLOW_HEADER ? OK : fault);
}

static void open_stream(Conn *c) {
    if (c->opened) return;
    c->opened = true;
    send_bytes(c, openings[c->chat].data, openings[c->chat].len);
}

static void send_at_once(Conn *c) {
    Buffer *b = &streams[c->chat].bytes;
    if (streams[c->chat].tokens != c->total || !b->len) {
        b->len = 0;
        add(b, openings[c->chat].data, openings[c->chat].len);
        for (uint32_t sent = 0; sent < c->total; sent += per_chunk) {
            uint32_t n = c->total - sent < per_chunk ? c->total - sent : per_chunk;
            add(b, chunk_frames[c->chat][n].data, chunk_frames[c->chat][n].len);
        }
        streams[c->chat].tokens = c->total;
    }
    size_t len = b->len;
    add_ending(b, c, c->total);
    wrote(c, c->total);
    send_bytes(c, b->data, b->len);
    b->len = len;
    end_answer(c, OK);
}

/* Whether the stream is over. */
static bool break_stream(Conn *c) {
    Buffer *frame = &chunk_frames[c->chat][1];
    switch (c->now.fault) {
        case RESET: drop(c, true); return true;
        case TRUNCATED:
            send_bytes(c, "0\r\n\r\n", 5);
            end_answer(c, TRUNCATED);
            return true;
        case CUT:
            send_bytes(c, frame->data, frame->len / 2);
            end_answer(c, CUT);
            drop(c, false);
            return true;
        case ERROR_EVENT: {
            Buffer b = {0};
            add_event(&b, "data: {\"error\":{\"message\":\"told to fail\",\"type\":\"server_error\",\"code\":500}}\n\n");
            add_event(&b, "data: [DONE]\n\n");
            add(&b, "0\r\n\r\n", 5);
            send_bytes(c, b.data, b.len);
            free(b.data);
            end_answer(c, ERROR_EVENT);
            return true;
        }
        case MALFORMED: {
            Buffer b = {0};
            add_event(&b, "data: {\"id\":\"chatcmpl-0\",\"object\":\"chat.comp\n\n");
            send_bytes(c, b.data, b.len);
            free(b.data);
            return false;
        }
        default: return false;
    }
}

/* A timer is due: the next thing happens. */
static void step(Conn *c, double now) {
    if (now - c->due > 0.05) c->due = now; /* After a freeze nothing is made up for. */
    if (!c->stream) {
        send_whole(c);
        return;
    }
    uint8_t fault = c->now.fault;
    if (fault == SLOW_HEADER && !c->paused) {
        c->paused = true;
        open_stream(c);
        c->due += draw(ttft, &c->rng);
        at(c->due, c);
        return;
    }
    open_stream(c);
    if (fault && fault != SLOW_HEADER && c->sent >= c->break_at && !c->paused) {
        c->paused = true;
        if (fault == STALL) {
            c->due += stall_s;
            at(c->due, c);
            return;
        }
        if (break_stream(c)) return;
    }
    if (c->sent < c->total) {
        uint32_t n = c->total - c->sent < per_chunk ? c->total - c->sent : per_chunk;
        Buffer *frame = &chunk_frames[c->chat][n];
        wrote(c, n);
        send_bytes(c, frame->data, frame->len);
        c->sent += n;
    }
    if (c->sent >= c->total) {
        finish_stream(c);
        if (c->fd >= 0) parse(c);
        return;
    }
    uint32_t next = c->total - c->sent < per_chunk ? c->total - c->sent : per_chunk;
    for (uint32_t i = 0; i < next; i++) c->due += draw(itl, &c->rng);
    at(c->due, c);
}

static void begin(Conn *c) {
    double now = now_s();
    running++;
    if (running > max_running) max_running = running;
    c->started = true;
    c->now.slot = now;
    c->due = now;
    uint8_t fault = c->now.fault;
    bool takes_time = ttft.median_s > 0 || itl.median_s > 0 || fault || frozen_until(now);
    if (!takes_time) {
        if (c->stream) send_at_once(c);
        else send_whole(c);
        return;
    }
    if (c->stream && fault == EMPTY) c->total = 0;
    if (fault == SLOW_HEADER || (fault == STALL && !c->stream)) c->due += stall_s;
    if (!c->stream) {
        c->due += draw(ttft, &c->rng);
        for (uint32_t i = 1; i < c->total; i++) c->due += draw(itl, &c->rng);
    } else if (fault != SLOW_HEADER) {
        if (!frozen_until(now)) open_stream(c);
        c->due += draw(ttft, &c->rng);
    }
    at(c->due, c);
}

static void give_slot(void) {
    while (line_first && (!slots || running < slots)) {
        Conn *c = line_first;
        line_first = c->next;
        if (!line_first) line_last = NULL;
        c->waiting = false;
        waiting--;
        begin(c);
    }
}

/* Requests */

static bool says_true(const char *body, const char *key) {
    const char *found = strstr(body, key);
    if (!found) return false;
    found += strlen(key);
    while (*found == ' ' || *found == ':') found++;
    return *found == 't';
}

static uint32_t number_of(const char *body, const char *key, uint32_t otherwise) {
    const char *found = strstr(body, key);
    if (!found) return otherwise;
    found += strlen(key);
    while (*found == ' ' || *found == ':') found++;
    return *found >= '0' && *found <= '9' ? (uint32_t)strtoul(found, NULL, 10) : otherwise;
}

static void generate(Conn *c, bool chat, const char *body, size_t len, double arrived) {
    uint64_t hash = hash_of(body, len);
    uint32_t tries = tries_of(hash);
    requests++;
    c->chat = chat;
    c->stream = says_true(body, "\"stream\"");
    c->usage = says_true(body, "\"include_usage\"");
    c->total = number_of(body, "\"max_completion_tokens\"", number_of(body, "\"max_tokens\"", default_tokens));
    if (!c->total) c->total = 1;
    c->sent = 0;
    c->break_at = c->total / 2;
    c->paused = c->opened = false;
    c->prompt_tokens = (uint32_t)(len / 4) + 1;
    c->rng = mix(seed ^ hash ^ ((uint64_t)tries << 48));
    c->now = (Truth){.arrived = arrived, .slot = NAN, .first = NAN, .last = NAN, .connection = c->number, .tries = tries,
                     .fault = fault_for(hash, tries), .stream = c->stream};
    c->busy = true;
    if (c->now.fault == F500 || c->now.fault == F429) {
        static const char error[] = "{\"error\":{\"message\":\"told to fail\",\"type\":\"server_error\",\"code\":null}}";
        if (c->now.fault == F500) answer(c, "500 Internal Server Error", "application/json", "", error, sizeof error - 1);
        else answer(c, "429 Too Many Requests", "application/json", "Retry-After: 1\r\n", error, sizeof error - 1);
        end_answer(c, c->now.fault);
        return;
    }
    if (slots && (running >= slots || line_first)) {
        c->waiting = true;
        waiting++;
        c->next = NULL;
        if (line_last) line_last->next = c;
        else line_first = c;
        line_last = c;
        return;
    }
    begin(c);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void add_percentiles(Buffer *b, const char *name, double *values, size_t n) {
    if (!n) {
        addf(b, "\"%s\":null,", name);
        return;
    }
    qsort(values, n, sizeof *values, by_value);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    addf(b, "\"%s\":{\"count\":%zu,\"mean\":%.6f,\"max\":%.6f", name, n, 1e3 * sum / (double)n, 1e3 * values[n - 1]);
    static const struct {
        const char *name;
        double share;
    } wanted[] = {{"p50", 0.5}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}};
    for (size_t i = 0; i < 4; i++) {
        double place = wanted[i].share * (double)(n - 1);
        size_t below = (size_t)place, above = below + 1 < n ? below + 1 : below;
        addf(b, ",\"%s\":%.6f", wanted[i].name,
             1e3 * (values[below] + (values[above] - values[below]) * (place - (double)below)));
    }
    addf(b, "},");
}

static void add_counts(Buffer *b, const char *name, const uint64_t *from) {
    addf(b, "\"%s\":{", name);
    bool any = false;
    for (int i = 0; i < N_ENDS; i++)
        if (from[i]) {
            addf(b, "%s\"%s\":%llu", any ? "," : "", END_NAMES[i], (unsigned long long)from[i]);
            any = true;
        }
    addf(b, "},");
}

static void add_stats(Buffer *b) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                 1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    uint64_t tokens = 0;
    for (size_t i = 0; i < n_truths; i++) tokens += truths[i].tokens;
    add_counts(b, "outcomes", counts);
    add_counts(b, "faults", fault_counts);
    addf(b, "\"requests\":%llu,\"running\":%u,\"waiting\":%u,\"max_running\":%llu,\"connections\":%u,\"total_connections\":%u,",
         (unsigned long long)requests, running, waiting, (unsigned long long)max_running, connections_open, n_connections);
    addf(b, "\"tokens\":%llu,\"bytes\":%llu,\"cpu_s\":%.6f,\"now_s\":%.6f", (unsigned long long)tokens,
         (unsigned long long)n_bytes, cpu, now_s());
}

static void add_summary(Buffer *b) {
    size_t room = n_truths > n_gaps ? n_truths : n_gaps;
    double *values = malloc((room + 1) * sizeof *values);
    if (!values) exit(1);
    size_t n = 0;
    for (size_t i = 0; i < n_truths; i++)
        if (truths[i].outcome == OK && truths[i].tokens) values[n++] = truths[i].first - truths[i].arrived;
    add_percentiles(b, "ttft_ms", values, n);
    n = 0;
    for (size_t i = 0; i < n_truths; i++)
        if (truths[i].outcome == OK && truths[i].tokens) values[n++] = truths[i].last - truths[i].arrived;
    add_percentiles(b, "e2e_ms", values, n);
    for (size_t i = 0; i < n_gaps; i++) values[i] = gaps[i];
    add_percentiles(b, "itl_ms", values, n_gaps);
    free(values);
    add_stats(b);
}

static void add_truth(Buffer *b) {
    addf(b, "arrived_s\tslot_s\tfirst_s\tlast_s\tend_s\ttokens\toutcome\tfault\tstream\ttry\tconnection\n");
    for (size_t i = 0; i < n_truths; i++) {
        Truth *t = &truths[i];
        addf(b, "%.6f\t%.6f\t%.6f\t%.6f\t%.6f\t%u\t%s\t%s\t%u\t%u\t%u\n", t->arrived, t->slot, t->first, t->last, t->end,
             t->tokens, END_NAMES[t->outcome], t->fault ? END_NAMES[t->fault] : "", t->stream, t->tries, t->connection);
    }
}

static void reset(void) {
    n_truths = n_gaps = n_seen = 0;
    requests = n_bytes = max_running = 0;
    memset(counts, 0, sizeof counts);
    memset(fault_counts, 0, sizeof fault_counts);
    if (seen) memset(seen, 0, seen_cap * sizeof *seen);
}

static void route(Conn *c, char *head, const char *body, size_t len, double arrived) {
    char *path = strchr(head, ' ');
    path = path ? path + 1 : head;
    path[strcspn(path, " ?\r\n")] = 0;
    if (!strncmp(path, "/v1/", 4)) path += 3;
    if (!strcmp(path, "/chat/completions")) {
        generate(c, true, body, len, arrived);
        return;
    }
    if (!strcmp(path, "/completions")) {
        generate(c, false, body, len, arrived);
        return;
    }
    Buffer b = {0};
    const char *type = "application/json", *status = "200 OK";
    if (!strcmp(path, "/truth")) {
        add_truth(&b);
        type = "text/tab-separated-values";
    } else if (!strcmp(path, "/truth/summary") || !strcmp(path, "/stats")) {
        addf(&b, "{");
        if (path[1] == 't') add_summary(&b);
        else add_stats(&b);
        addf(&b, "}");
    } else if (!strcmp(path, "/reset")) {
        reset();
        addf(&b, "{}");
    } else if (!strcmp(path, "/models"))
        addf(&b, "{\"object\":\"list\",\"data\":[{\"id\":\"m\",\"object\":\"model\",\"created\":0,\"owned_by\":\"bench\"}]}");
    else if (!strcmp(path, "/health")) addf(&b, "{}");
    else {
        status = "404 Not Found";
        addf(&b, "{\"error\":{\"message\":\"nothing here\",\"type\":\"not_found\",\"code\":404}}");
    }
    answer(c, status, type, "", b.data, b.len);
    free(b.data);
}

static void parse(Conn *c) {
    while (c->fd >= 0 && !c->busy && c->in.len) {
        char *end = memmem(c->in.data, c->in.len, "\r\n\r\n", 4);
        if (!end) return;
        size_t head_len = (size_t)(end - c->in.data) + 4, len = 0;
        for (char *line = memchr(c->in.data, '\n', head_len); line && line + 1 < end; line = memchr(line + 1, '\n', (size_t)(end - line)))
            if (!strncasecmp(line + 1, "content-length:", 15)) len = strtoul(line + 16, NULL, 10);
        if (c->in.len < head_len + len) return;
        double arrived = now_s();
        char *body = c->in.data + head_len, kept = body[len];
        end[0] = body[len] = 0;
        route(c, c->in.data, body, len, arrived);
        if (c->fd < 0) return;
        body[len] = kept;
        c->in.len -= head_len + len;
        memmove(c->in.data, body + len, c->in.len);
    }
}

static void readable(Conn *c) {
    for (;;) {
        c->in.data = grown(c->in.data, &c->in.cap, c->in.len + 16385, 1);
        ssize_t n = recv(c->fd, c->in.data + c->in.len, 16384, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) break;
        if (n <= 0) {
            drop(c, false);
            return;
        }
        c->in.len += (size_t)n;
        if (n < 16384) break;
    }
    parse(c);
}

static void writable(Conn *c) {
    ssize_t n = send(c->fd, c->out.data + c->out_sent, c->out.len - c->out_sent, MSG_NOSIGNAL);
    if (n > 0) c->out_sent += (size_t)n;
    if (c->out_sent == c->out.len) {
        c->out_sent = c->out.len = 0;
        watch(c, false);
    }
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Conn *c = free_conns;
        if (c) free_conns = c->next;
        else c = calloc(1, sizeof *c);
        if (!c) exit(1);
        c->fd = fd;
        c->number = ++n_connections;
        c->wants_write = c->busy = c->waiting = c->started = false;
        c->next = NULL;
        connections_open++;
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

static void turn_wheel(void) {
    double now = now_s();
    if (frozen_until(now)) return;
    while (heap_len && heap[0].due <= now) {
        Timer timer = pop();
        if (timer.conn->generation == timer.generation && timer.conn->busy) {
            step(timer.conn, now);
            if (timer.conn->fd >= 0 && !timer.conn->busy) parse(timer.conn);
        }
    }
}

static int wait_for(struct epoll_event *events, int max) {
    double now = now_s(), until = heap_len ? heap[0].due : INFINITY, thaw = frozen_until(now);
    if (thaw && heap_len && until < thaw) until = thaw;
    if (!isinf(until)) until = ceil(until / TICK_S) * TICK_S; /* what is due together goes out together */
    double wait = until - now;
    if (wait <= 0) return epoll_wait(epoll_fd, events, max, 0);
    if (isinf(wait)) return epoll_wait(epoll_fd, events, max, -1);
    struct timespec t = {(time_t)wait, (long)((wait - floor(wait)) * 1e9)};
#ifdef SYS_epoll_pwait2
    int n = (int)syscall(SYS_epoll_pwait2, epoll_fd, events, max, &t, NULL, 0);
    if (n >= 0 || errno != ENOSYS) return n;
#endif
    return epoll_wait(epoll_fd, events, max, (int)(wait * 1e3)); /* the last fraction is spun */
}

/* Start */

static void bad(const char *what) {
    fprintf(stderr, "llm_server: %s is not understood; the head of llm_server.c lists the options\n", what);
    exit(2);
}

static double seconds(const char *text, char **end) {
    double value = strtod(text, end);
    if (!strncmp(*end, "us", 2)) *end += 2, value *= 1e-6;
    else if (!strncmp(*end, "ms", 2)) *end += 2, value *= 1e-3;
    else if (**end == 's') *end += 1;
    else if (value != 0) bad(text);
    return value;
}

static Latency latency(const char *text) {
    Latency found = {0, 0};
    char *end;
    bool is_lognormal = !strncmp(text, "lognormal:", 10);
    found.median_s = seconds(is_lognormal ? text + 10 : text, &end);
    if (is_lognormal && *end == ':') found.sigma = strtod(end + 1, &end);
    if (*end) bad(text);
    return found;
}

static void read_fault(const char *text) {
    const char *equals = strchr(text, '=');
    for (int kind = 1; equals && kind < ABORTED; kind++)
        if (strlen(END_NAMES[kind]) == (size_t)(equals - text) && !strncmp(text, END_NAMES[kind], (size_t)(equals - text))) {
            fault_rates[kind] = strtod(equals + 1, NULL);
            any_fault = true;
            return;
        }
    bad(text);
}

static void go_first(void) {
    struct sched_param first = {.sched_priority = 10};
    if (sched_setscheduler(0, SCHED_FIFO, &first)) fputs("llm_server: realtime is not allowed here\n", stderr);
}

static uint16_t read_options(int argc, char **argv) {
    uint16_t port = 0;
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (!strcmp(name, "--realtime")) {
            go_first();
            continue;
        }
        if (++i == argc) bad(name);
        const char *value = argv[i];
        char *end;
        if (!strcmp(name, "--port")) port = (uint16_t)atoi(value);
        else if (!strcmp(name, "--ttft")) ttft = latency(value);
        else if (!strcmp(name, "--itl")) itl = latency(value);
        else if (!strcmp(name, "--tokens")) default_tokens = (uint32_t)atoi(value);
        else if (!strcmp(name, "--per-chunk")) per_chunk = (uint32_t)atoi(value);
        else if (!strcmp(name, "--slots")) slots = (uint32_t)atoi(value);
        else if (!strcmp(name, "--seed")) seed = mix(strtoull(value, NULL, 10));
        else if (!strcmp(name, "--stall")) stall_s = seconds(value, &end);
        else if (!strcmp(name, "--fault")) read_fault(value);
        else if (!strcmp(name, "--freeze")) {
            freeze_s = seconds(value, &end);
            if (*end != '/') bad(value);
            period_s = seconds(end + 1, &end);
        } else bad(name);
    }
    if (per_chunk < 1 || per_chunk > 64) bad("--per-chunk");
    return port;
}

int main(int argc, char **argv) {
    uint16_t port = read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    make_templates();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) {
        perror("llm_server: cannot listen");
        return 1;
    }
    getsockname(listener, (struct sockaddr *)&address, &size);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    started_s = now_s();
    printf("llm_server: http://127.0.0.1:%u/v1\n", ntohs(address.sin_port));
    fflush(stdout);
    struct epoll_event events[512];
    for (;;) {
        int n = wait_for(events, 512);
        for (int i = 0; i < n; i++) {
            Conn *c = events[i].data.ptr;
            if (!c) accept_all(listener);
            else if (c->fd >= 0) {
                if (events[i].events & EPOLLOUT) writable(c);
                if (c->fd >= 0 && events[i].events & ~(uint32_t)EPOLLOUT) readable(c);
            }
        }
        turn_wheel();
    }
}
