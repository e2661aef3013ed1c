/* The ring core without Python, for sanitizers.
 *
 *   ring_stress honest SECONDS    two threads, messages and streams of all lengths, checked at the other end
 *   ring_stress hostile SECONDS   the other end's memory is scribbled over by a thread while an end works
 *
 * Segments are exactly as long as they should be and end where the allocation ends, so that ASan sees a byte too many.
 * Status 0 when the time is over, 1 with a message when something was not as it should be.
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ring.h"

#define SIZE 8192u
#define GENERATION 7u

static void prepare(struct ring_side *side, enum ring_role role, enum ring_kind kind)
{
    side->magic = RING_MAGIC;
    side->version = RING_VERSION;
    side->role = (uint16_t)role;
    side->kind = (uint16_t)kind;
    side->generation = GENERATION;
    side->size = SIZE;
    atomic_store(&side->index, 0);
    atomic_store(&side->state, (uint32_t)RING_OPEN);
}

static void *segment(enum ring_role role, enum ring_kind kind)
{
    size_t length = RING_PAGE + (role == RING_PRODUCER ? SIZE : 0);
    struct ring_side *side = aligned_alloc(RING_PAGE, length);

    if (side == NULL)
        abort();
    memset(side, 0, length);
    prepare(side, role, kind);
    return side;
}

static void attach(struct ring_end *end, enum ring_role role, void *own, void *peer, enum ring_kind kind)
{
    size_t producers = RING_PAGE + SIZE, consumers = RING_PAGE;
    const char *wrong = role == RING_PRODUCER
                            ? ring_attach(end, role, own, producers, peer, consumers, kind, GENERATION, SIZE, 2000)
                            : ring_attach(end, role, own, consumers, peer, producers, kind, GENERATION, SIZE, 2000);
    if (wrong != NULL) {
        fprintf(stderr, "attach: %s\n", wrong);
        exit(1);
    }
}

static uint64_t draw(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static _Atomic int over; /* the time is */

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* ---- honest ---- */

struct job {
    void *producers, *consumers;
    enum ring_kind kind;
    uint64_t count; /* messages, or bytes */
};

static void *produce(void *argument)
{
    struct job *job = argument;
    struct ring_end end;
    uint64_t seed = 88172645463325252u, sent = 0;
    static uint8_t data[SIZE];

    attach(&end, RING_PRODUCER, job->producers, job->consumers, job->kind);
    while (!atomic_load(&over)) {
        uint64_t length = draw(&seed) % (ring_limit(&end) + 1);
        int status;

        if (job->kind == RING_MESSAGES) {
            memset(data, (int)(sent & 0xff), length);
            while ((status = ring_put(&end, data, length)) == RING_AGAIN)
                ring_spin(&end);
            CHECK(status == RING_OK);
            sent++;
        } else {
            uint64_t done = 0, part;
            for (uint64_t at = 0; at < length; at++)
                data[at] = (uint8_t)((sent + at) * 131 >> 3);
            while (done < length) {
                status = ring_write(&end, data + done, length - done, &part);
                CHECK(status == RING_OK || status == RING_AGAIN);
                done += part;
                ring_publish(&end);
            }
            sent += length;
        }
        if (draw(&seed) % 3 == 0)
            ring_publish(&end);
        if (ring_want(&end, length))
            continue;
        ring_publish(&end);
    }
    ring_publish(&end);
    ring_finish(&end);
    job->count = sent;
    return NULL;
}

static void *consume(void *argument)
{
    struct job *job = argument;
    struct ring_end end;
    uint64_t seed = 1234567u, got = 0;
    uint32_t length;
    int status;
    static uint8_t data[SIZE];

    attach(&end, RING_CONSUMER, job->consumers, job->producers, job->kind);
    for (;;) {
        if (job->kind == RING_MESSAGES) {
            status = ring_get(&end, data, sizeof data, &length);
            if (status == RING_OK) {
                for (uint32_t at = 0; at < length; at++)
                    CHECK(data[at] == (uint8_t)got);
                got++;
            }
        } else {
            uint64_t part;
            status = ring_read(&end, data, draw(&seed) % sizeof data + 1, &part);
            for (uint64_t at = 0; at < part; at++)
                CHECK(data[at] == (uint8_t)((got + at) * 131 >> 3));
            got += part;
        }
        ring_publish(&end);
        if (status == RING_AGAIN && !ring_want(&end, 0))
            ring_spin(&end);
        CHECK(status == RING_OK || status == RING_AGAIN || status == RING_FINISHED);
        if (status == RING_FINISHED)
            break;
    }
    ring_finish(&end);
    job->count = got;
    return NULL;
}

static void honest(double seconds, enum ring_kind kind)
{
    struct job out = {segment(RING_PRODUCER, kind), segment(RING_CONSUMER, kind), kind, 0};
    struct job in = out;
    struct timespec pause = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    pthread_t producer, consumer;

    atomic_store(&over, 0);
    pthread_create(&producer, NULL, produce, &out);
    pthread_create(&consumer, NULL, consume, &in);
    nanosleep(&pause, NULL);
    atomic_store(&over, 1);
    pthread_join(producer, NULL);
    pthread_join(consumer, NULL);
    CHECK(out.count == in.count && in.count > 0);
    printf("%s: %llu\n", kind == RING_MESSAGES ? "messages" : "bytes", (unsigned long long)in.count);
    free(out.producers);
    free(out.consumers);
}

/* ---- hostile ---- */

struct target {
    void *segment;
    size_t length;
};

/* Values that lie near what an end compares with, and any others. */
static uint64_t nasty(uint64_t *seed)
{
    static const uint64_t values[] = {0, 1, 15, 16, 17, 2048, SIZE - 16, SIZE, SIZE + 16, UINT32_MAX, UINT64_MAX - 15,
                                      UINT64_MAX, (uint64_t)RING_DATA << 32, (uint64_t)RING_PAD << 32,
                                      (uint64_t)RING_DATA << 32 | 2032, (uint64_t)RING_PAD << 32 | (SIZE - 16)};
    uint64_t kind = draw(seed) % 4;

    if (kind == 0)
        return draw(seed);
    return values[draw(seed) % (sizeof values / sizeof *values)] + (kind == 1 ? draw(seed) % 64 * 16 : 0);
}

static void *scribble(void *argument)
{
    struct target *target = argument;
    struct ring_side *side = target->segment;
    _Atomic uint64_t *words = target->segment;
    uint64_t seed = (uint64_t)(uintptr_t)target | 1;

    while (!atomic_load(&over)) {
        switch (draw(&seed) % 8) {
        case 0:
            atomic_store_explicit(&side->index, nasty(&seed), memory_order_relaxed);
            break;
        case 1:
            atomic_store_explicit(&side->wanted, nasty(&seed), memory_order_relaxed);
            break;
        case 2:
            atomic_store_explicit(&side->state, (uint32_t)(draw(&seed) % 64 == 0 ? draw(&seed) % 4 : 0),
                                  memory_order_relaxed);
            break;
        case 3:
        case 4: /* what looks like progress, for a while */
            atomic_fetch_add_explicit(&side->index, 16 * (draw(&seed) % 8), memory_order_relaxed);
            break;
        case 5: /* nearly a frame, mostly where a fresh end reads first */
            if (target->length > RING_PAGE) {
                uint64_t word = RING_PAGE / 8 + (draw(&seed) % 2 ? 0 : draw(&seed) % 8 * 2);
                atomic_store_explicit(&words[word], (uint64_t)RING_DATA << 32 | nasty(&seed) % 70000,
                                      memory_order_relaxed);
                atomic_store_explicit(&words[word + 1], draw(&seed) % 3, memory_order_relaxed);
            }
            break;
        default:
            atomic_store_explicit(&words[draw(&seed) % (target->length / 8)], nasty(&seed), memory_order_relaxed);
        }
    }
    return NULL;
}

/* An end that was poisoned is attached anew to the same memory, over and over. */
static void hostile(double seconds, enum ring_role role, enum ring_kind kind)
{
    void *producers = segment(RING_PRODUCER, kind), *consumers = segment(RING_CONSUMER, kind);
    bool producer = role == RING_PRODUCER;
    struct target target = {producer ? consumers : producers, RING_PAGE + (producer ? 0 : SIZE)};
    struct ring_side *theirs = target.segment, *own = producer ? producers : consumers;
    uint64_t seed = 99, calls = 0, poisoned = 0;
    double until = now() + seconds;
    uint8_t *data = malloc(SIZE / 4);
    pthread_t thread;

    atomic_store(&over, 0);
    pthread_create(&thread, NULL, scribble, &target);
    while (now() < until) {
        struct ring_end end;
        unsigned steps = 0;

        prepare(own, role, kind);
        prepare(theirs, producer ? RING_CONSUMER : RING_PRODUCER, kind);
        if (ring_attach(&end, role, own, RING_PAGE + (producer ? SIZE : 0), theirs, target.length, kind, GENERATION,
                        SIZE, 2000) != NULL)
            continue; /* scribbled over in between */
        for (int status = RING_OK; steps < 10000 && status != RING_POISONED && status != RING_FINISHED; steps++) {
            uint64_t part = 0, before = end.mine;
            uint32_t length = 0;

            if (producer)
                status = kind == RING_MESSAGES ? ring_put(&end, data, draw(&seed) % (SIZE / 4))
                                               : ring_write(&end, data, draw(&seed) % (SIZE / 4), &part);
            else
                status = kind == RING_MESSAGES ? ring_get(&end, data, SIZE / 4, &length)
                                               : ring_read(&end, data, draw(&seed) % (SIZE / 4) + 1, &part);
            CHECK(length <= ring_limit(&end) && part <= SIZE / 4);
            CHECK(end.mine >= before && end.mine - before <= SIZE / 2 && end.mine % RING_FRAME == 0);
            CHECK(producer ? end.mine - end.theirs <= SIZE && end.theirs <= end.mine
                           : end.theirs - end.mine <= SIZE);
            CHECK(producer || kind == RING_MESSAGES || status != RING_OK || part > 0);
            ring_publish(&end);
            if (status == RING_AGAIN)
                ring_spin(&end);
            ring_want(&end, draw(&seed) % SIZE);
            calls++;
        }
        poisoned += end.fault != RING_SOUND;
    }
    atomic_store(&over, 1);
    pthread_join(thread, NULL);
    CHECK(calls > 0 && poisoned > 0);
    printf("%s: %llu calls, %llu channels poisoned\n", producer ? "producer" : "consumer", (unsigned long long)calls,
           (unsigned long long)poisoned);
    free(data);
    free(producers);
    free(consumers);
}

int main(int count, char **words)
{
    double seconds = count == 3 ? atof(words[2]) : 0;

    if (seconds <= 0)
        return 2;
    for (enum ring_kind kind = RING_MESSAGES; kind <= RING_BYTES; kind++) {
        if (strcmp(words[1], "honest") == 0) {
            honest(seconds / 2, kind);
        } else {
            hostile(seconds / 4, RING_PRODUCER, kind);
            hostile(seconds / 4, RING_CONSUMER, kind);
        }
    }
    return 0;
}
