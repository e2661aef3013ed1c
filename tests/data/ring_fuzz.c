/* libFuzzer's entry: the input is what the other end writes, and when.
 *
 * The first byte says which end is honest and of which kind the channel is. Then come steps: what to do next, and the
 * numbers that it takes. Memory is exactly as long as it should be.
 */
#include <stdlib.h>
#include <string.h>

#include "ring.h"

#define SIZE 4096u
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

struct input {
    const uint8_t *at, *end;
};

static uint64_t take(struct input *input, size_t bytes)
{
    uint64_t value = 0;
    size_t left = (size_t)(input->end - input->at);

    if (bytes > left)
        bytes = left;
    memcpy(&value, input->at, bytes);
    input->at += bytes;
    return value;
}

static struct ring_side *segment(enum ring_role role, enum ring_kind kind)
{
    size_t length = RING_PAGE + (role == RING_PRODUCER ? SIZE : 0);
    struct ring_side *side = aligned_alloc(RING_PAGE, length);

    memset(side, 0, length);
    side->magic = RING_MAGIC;
    side->version = RING_VERSION;
    side->role = (uint16_t)role;
    side->kind = (uint16_t)kind;
    side->generation = 1;
    side->size = SIZE;
    return side;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    struct input input = {data, data + length};
    uint64_t setup = take(&input, 1);
    bool producer = setup & 1;
    enum ring_kind kind = setup & 2 ? RING_BYTES : RING_MESSAGES;
    struct ring_side *producers = segment(RING_PRODUCER, kind), *consumers = segment(RING_CONSUMER, kind);
    struct ring_side *own = producer ? producers : consumers, *theirs = producer ? consumers : producers;
    size_t words = (RING_PAGE + (producer ? 0 : SIZE)) / 8;
    uint8_t *room = malloc(SIZE);
    uint64_t sequence = 0;
    struct ring_end end;

    memset(room, 0, SIZE);
    CHECK(ring_attach(&end, producer ? RING_PRODUCER : RING_CONSUMER, own, RING_PAGE + (producer ? SIZE : 0), theirs,
                      RING_PAGE + (producer ? 0 : SIZE), kind, 1, SIZE, 0) == NULL);
    while (input.at < input.end) {
        uint64_t before = end.mine, part = 0, number;
        uint32_t got = 0;
        bool poisoned = end.fault != RING_SOUND;
        int status = RING_OK;

        switch (take(&input, 1) % 8) {
        case 0:
            theirs->index = take(&input, 8);
            break;
        case 1:
            theirs->index += 16 * (take(&input, 1) % 64);
            break;
        case 2:
            theirs->state = (uint32_t)take(&input, 1);
            theirs->wanted = take(&input, 8);
            break;
        case 3:
            number = take(&input, 2) % words;
            ((uint64_t *)(void *)theirs)[number] = take(&input, 8);
            break;
        case 4: /* a sound frame, or nearly, where the honest end reads next */
            if (!producer) {
                uint64_t *frame = (uint64_t *)(void *)(end.data + (end.mine & (SIZE - 1)));
                frame[0] = take(&input, 2) % 1100 | (1 + take(&input, 1) % 8 / 7) << 32;
                frame[1] = end.sequence;
                theirs->index += (16 + (uint32_t)frame[0] + 15) & ~15u;
            }
            break;
        case 5:
            ring_want(&end, take(&input, 2));
            if (producer)
                ring_want_drained(&end), status = ring_drained(&end);
            break;
        default:
            number = take(&input, 2) % SIZE;
            if (producer)
                status = kind == RING_MESSAGES ? ring_put(&end, room, number)
                                               : ring_write(&end, room, number, &part);
            else
                status = kind == RING_MESSAGES ? ring_get(&end, room, number, &got)
                                               : ring_read(&end, room, number + 1, &part);
            ring_publish(&end);
        }
        CHECK(!poisoned || end.fault != RING_SOUND);
        CHECK((status != RING_POISONED && !poisoned) || end.mine - before <= SIZE / 2);
        CHECK(end.mine >= before && end.mine % RING_FRAME == 0 && end.sequence >= sequence);
        CHECK(producer ? end.theirs <= end.published && end.mine - end.theirs <= SIZE : end.theirs - end.mine <= SIZE);
        CHECK(got <= ring_limit(&end) && part <= SIZE);
        sequence = end.sequence;
    }
    free(room);
    free(producers);
    free(consumers);
    return 0;
}
