/* What `python -m bench ring` measures without Python: two copies with the least that any channel needs, the ring core,
 * and a round trip. Each line is a name and a value.
 *
 *   ring_bench copy SIZE BYTES    GB/s of memcpy, of two copies with bare counters, of the ring; messages of SIZE
 *   ring_bench trip COUNT         ns of a spinning round trip, the median: bare counters, and 64 bytes over two rings
 *
 * "Bare" is the bound: one process copies in, another copies out, through the same size of memory, with one counter
 * each way, no frames, no checks, no waking.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ring.h"

#define LONG_SPIN 1000000u

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void *shared(size_t length)
{
    void *start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (start == MAP_FAILED)
        exit(1);
    return start;
}

static struct ring_side *segment(enum ring_role role, uint64_t size)
{
    struct ring_side *side = shared(RING_PAGE + (role == RING_PRODUCER ? size : 0));

    side->magic = RING_MAGIC;
    side->version = RING_VERSION;
    side->role = (uint16_t)role;
    side->kind = RING_MESSAGES;
    side->size = size;
    return side;
}

static void attach(struct ring_end *end, enum ring_role role, struct ring_side *producers, struct ring_side *consumers)
{
    uint64_t size = producers->size;
    bool producer = role == RING_PRODUCER;

    if (ring_attach(end, role, producer ? producers : consumers, RING_PAGE + (producer ? size : 0),
                    producer ? consumers : producers, RING_PAGE + (producer ? 0 : size), RING_MESSAGES, 0, size,
                    LONG_SPIN) != NULL)
        exit(1);
}

static double copying(size_t size, uint64_t total)
{
    uint8_t *from = shared(size), *to = shared(size);
    double begun = now();

    for (uint64_t done = 0; done < total; done += size) {
        memcpy(to, from, size);
        __asm__ volatile("" ::"r"(to) : "memory");
    }
    return (double)total / (now() - begun) / 1e9;
}

struct bare {
    _Alignas(RING_LINE) _Atomic uint64_t prod;
    _Alignas(RING_LINE) _Atomic uint64_t cons;
};

static double bare(size_t size, uint64_t total, uint64_t room)
{
    struct bare *counters = shared(sizeof *counters);
    uint8_t *data = shared(room), *mine = malloc(size);
    uint64_t done = 0, theirs = 0;
    double begun;
    pid_t child;

    memset(mine, 1, size);
    if ((child = fork()) == 0) {
        pin(1);
        while (done < total) {
            while (theirs - done < size)
                theirs = atomic_load_explicit(&counters->prod, memory_order_acquire);
            memcpy(mine, data + done % room, size);
            done += size;
            atomic_store_explicit(&counters->cons, done, memory_order_release);
        }
        _exit(0);
    }
    pin(0);
    begun = now();
    while (done < total) {
        while (done + size - theirs > room)
            theirs = atomic_load_explicit(&counters->cons, memory_order_acquire);
        memcpy(data + done % room, mine, size);
        done += size;
        atomic_store_explicit(&counters->prod, done, memory_order_release);
    }
    waitpid(child, NULL, 0);
    return (double)total / (now() - begun) / 1e9;
}

static double ring(size_t size, uint64_t total, uint64_t room)
{
    struct ring_side *producers = segment(RING_PRODUCER, room), *consumers = segment(RING_CONSUMER, room);
    uint8_t *mine = malloc(size);
    struct ring_end end;
    double begun;
    pid_t child;

    memset(mine, 1, size);
    if ((child = fork()) == 0) {
        uint32_t length;

        pin(1);
        attach(&end, RING_CONSUMER, producers, consumers);
        for (uint64_t done = 0; done < total; done += size) {
            while (ring_get(&end, mine, size, &length) == RING_AGAIN)
                ring_spin(&end);
            ring_publish(&end);
        }
        _exit(0);
    }
    pin(0);
    attach(&end, RING_PRODUCER, producers, consumers);
    begun = now();
    for (uint64_t done = 0; done < total; done += size) {
        while (ring_put(&end, mine, size) == RING_AGAIN)
            ring_spin(&end);
        ring_publish(&end);
    }
    waitpid(child, NULL, 0);
    return (double)total / (now() - begun) / 1e9;
}

static int compare(const void *one, const void *other)
{
    double left = *(const double *)one, right = *(const double *)other;

    return (left > right) - (left < right);
}

static double middle(double *times, unsigned count)
{
    qsort(times, count, sizeof *times, compare);
    return times[count / 2];
}

#define BATCH 100u

static double bare_trip(unsigned batches)
{
    struct bare *counters = shared(sizeof *counters);
    double *times = malloc(batches * sizeof *times);
    pid_t child;

    if ((child = fork()) == 0) {
        pin(1);
        for (uint64_t done = 1; done <= (uint64_t)batches * BATCH; done++) {
            while (atomic_load_explicit(&counters->prod, memory_order_acquire) != done)
                ;
            atomic_store_explicit(&counters->cons, done, memory_order_release);
        }
        _exit(0);
    }
    pin(0);
    for (uint64_t batch = 0; batch < batches; batch++) {
        double begun = now();

        for (uint64_t done = batch * BATCH + 1; done <= (batch + 1) * BATCH; done++) {
            atomic_store_explicit(&counters->prod, done, memory_order_release);
            while (atomic_load_explicit(&counters->cons, memory_order_acquire) != done)
                ;
        }
        times[batch] = (now() - begun) * 1e9 / BATCH;
    }
    waitpid(child, NULL, 0);
    return middle(times, batches);
}

static void answer(struct ring_end *in, struct ring_end *out, bool first)
{
    uint8_t data[64] = {0};
    uint32_t length;

    if (first) {
        ring_put(out, data, sizeof data);
        ring_publish(out);
    }
    while (ring_get(in, data, sizeof data, &length) == RING_AGAIN)
        ring_spin(in);
    ring_publish(in);
    if (!first) {
        ring_put(out, data, sizeof data);
        ring_publish(out);
    }
}

static double ring_trip(unsigned batches)
{
    struct ring_side *there[] = {segment(RING_PRODUCER, 4096), segment(RING_CONSUMER, 4096)};
    struct ring_side *back[] = {segment(RING_PRODUCER, 4096), segment(RING_CONSUMER, 4096)};
    double *times = malloc(batches * sizeof *times);
    struct ring_end out, in;
    pid_t child;

    if ((child = fork()) == 0) {
        pin(1);
        attach(&in, RING_CONSUMER, there[0], there[1]);
        attach(&out, RING_PRODUCER, back[0], back[1]);
        for (unsigned done = 0; done < batches * BATCH; done++)
            answer(&in, &out, false);
        _exit(0);
    }
    pin(0);
    attach(&out, RING_PRODUCER, there[0], there[1]);
    attach(&in, RING_CONSUMER, back[0], back[1]);
    for (unsigned batch = 0; batch < batches; batch++) {
        double begun = now();

        for (unsigned done = 0; done < BATCH; done++)
            answer(&in, &out, true);
        times[batch] = (now() - begun) * 1e9 / BATCH;
    }
    waitpid(child, NULL, 0);
    return middle(times, batches);
}

int main(int count, char **words)
{
    if (count == 4 && strcmp(words[1], "copy") == 0) {
        size_t size = strtoul(words[2], NULL, 0);
        uint64_t total = strtoull(words[3], NULL, 0) / size * size;
        uint64_t room = 1 << 18; /* in the second-level cache, unless the messages are too long for that */

        while (room / 8 < size + RING_FRAME) /* as bench/transports.py has it */
            room *= 2;
        printf("memcpy %g\n", copying(size, total));
        printf("bare %g\n", bare(size, total, room));
        printf("ring %g\n", ring(size, total, room));
        return 0;
    }
    if (count == 3 && strcmp(words[1], "trip") == 0) {
        unsigned batches = (unsigned)strtoul(words[2], NULL, 0) / BATCH;

        printf("bare %g\n", bare_trip(batches));
        printf("ring %g\n", ring_trip(batches));
        return 0;
    }
    return 2;
}
