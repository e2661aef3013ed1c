#define _POSIX_C_SOURCE 199309L /* clock_gettime */

#include "ring.h"

#include <assert.h>
#include <string.h>
#include <time.h>

static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "an atomic behind a lock is none between processes");
static_assert(sizeof(_Atomic uint64_t) == 8 && sizeof(_Atomic uint32_t) == 4, "the layout is that of docs/ring.md");
static_assert(offsetof(struct ring_side, index) == 128 && offsetof(struct ring_side, wanted) == 256 &&
                  offsetof(struct ring_side, state) == 264 && sizeof(struct ring_side) <= RING_PAGE,
              "the layout is that of docs/ring.md");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the layout is little-endian");

/* Long enough to copy with few frames, short enough that the other end copies out while this one copies in. */
#define STREAM_FRAME 32768u

#define SPIN_LEAST 1000u /* nanoseconds below which a spin is not tried at all, but for ... */
#define SPIN_PROBE 16u   /* ... one wait in so many, as times change */
#define SPIN_HOT 64u     /* looks without a pause: an answer that is on its way takes no longer */
#define SPIN_LOOKS 16u   /* between two looks at the clock */

static inline uint64_t frame_size(uint64_t length)
{
    return (RING_FRAME + length + RING_FRAME - 1) & ~(uint64_t)(RING_FRAME - 1);
}

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

/* A frame's header is read and written as two words: each is loaded exactly once, which a memcpy would not promise. */
static inline void store_header(uint8_t *at, uint32_t length, enum ring_type type, uint64_t sequence)
{
    _Atomic uint64_t *words = (_Atomic uint64_t *)(void *)at;
    atomic_store_explicit(&words[0], (uint64_t)length | (uint64_t)type << 32, memory_order_relaxed);
    atomic_store_explicit(&words[1], sequence, memory_order_relaxed);
}

static inline void load_header(const uint8_t *at, uint64_t *first, uint64_t *sequence)
{
    const _Atomic uint64_t *words = (const _Atomic uint64_t *)(const void *)at;
    *first = atomic_load_explicit(&words[0], memory_order_relaxed);
    *sequence = atomic_load_explicit(&words[1], memory_order_relaxed);
}

static const char *check_side(const struct ring_side *side, enum ring_role role, enum ring_kind kind,
                              uint64_t generation, uint64_t size)
{
    if (side->magic != RING_MAGIC)
        return "it is no ring's memory";
    if (side->version != RING_VERSION)
        return "its version is not known";
    if (side->role != role)
        return "it belongs to the other end";
    if (side->kind != kind)
        return "it is of the other kind";
    if (side->generation != generation)
        return "it is of another generation";
    if (side->size != size)
        return "its size is not the agreed one";
    return NULL;
}

const char *ring_attach(struct ring_end *end, enum ring_role role, void *own, size_t own_length, const void *peer,
                        size_t peer_length, enum ring_kind kind, uint64_t generation, uint64_t size,
                        uint32_t spin_most)
{
    bool producer = role == RING_PRODUCER;
    struct ring_side *mine = own;
    const struct ring_side *theirs = peer;
    const char *wrong;

    if (size < RING_SIZE_MIN || size > RING_SIZE_MAX || (size & (size - 1)) != 0)
        return "a ring's size is a power of two from 2^12 to 2^30";
    if (own_length != RING_PAGE + (producer ? size : 0) || peer_length != RING_PAGE + (producer ? 0 : size))
        return "a segment has not the agreed length";
    if ((uintptr_t)own % RING_LINE != 0 || (uintptr_t)peer % RING_LINE != 0)
        return "a segment is not aligned";
    if ((wrong = check_side(mine, role, kind, generation, size)) != NULL)
        return wrong;
    if ((wrong = check_side(theirs, producer ? RING_CONSUMER : RING_PRODUCER, kind, generation, size)) != NULL)
        return wrong;
    if (atomic_load_explicit(&mine->index, memory_order_relaxed) != 0 ||
        atomic_load_explicit(&mine->state, memory_order_relaxed) != RING_OPEN)
        return "it was used before";
    memset(end, 0, sizeof *end);
    end->own = mine;
    end->peer = theirs;
    end->data = (producer ? (uint8_t *)own : (uint8_t *)(uintptr_t)peer) + RING_PAGE;
    end->size = size;
    end->spin = end->spin_most = spin_most;
    end->role = role;
    return NULL;
}

/* The fence: a bell that is rung before the state can be seen wakes the other end for nothing, and it sleeps again. */
static void set_state(struct ring_end *end, enum ring_state state)
{
    atomic_store_explicit(&end->own->state, (uint32_t)state, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
}

/* Whether who set the channel up has cut it. The other end can't write this word, so it can't undo the cut. */
static inline bool cut(const struct ring_end *end)
{
    return atomic_load_explicit(&end->own->state, memory_order_relaxed) == RING_CUT;
}

int ring_poison(struct ring_end *end, enum ring_fault fault)
{
    if (end->fault == RING_SOUND) {
        /* Who cuts a channel overwrites its data with zeros, which are no frames. */
        atomic_thread_fence(memory_order_acquire);
        if (cut(end))
            fault = RING_CUT_OFF;
        end->fault = fault;
        if (fault != RING_CUT_OFF)
            set_state(end, RING_BROKEN);
    }
    return RING_POISONED;
}

/* Loads the other end's index once, and takes it over if it can be true. */
static int look(struct ring_end *end)
{
    uint64_t index = atomic_load_explicit(&end->peer->index, memory_order_acquire);

    if (cut(end))
        return ring_poison(end, RING_CUT_OFF);
    if (index < end->theirs)
        return ring_poison(end, RING_INDEX_BACK);
    if (end->role == RING_PRODUCER ? index > end->published : index - end->mine > end->size)
        return ring_poison(end, RING_INDEX_FAR);
    if (index % RING_FRAME != 0)
        return ring_poison(end, RING_INDEX_ODD);
    end->theirs = index;
    return RING_OK;
}

/* RING_OK while the other end's state is open. */
static int peer_state(struct ring_end *end)
{
    switch (atomic_load_explicit(&end->peer->state, memory_order_acquire)) {
    case RING_OPEN:
        return RING_OK;
    case RING_DONE:
        return RING_FINISHED;
    case RING_BROKEN:
        return ring_poison(end, RING_PEER_BROKE);
    case RING_CUT:
        return ring_poison(end, RING_CUT_OFF);
    default:
        return ring_poison(end, RING_STATE);
    }
}

/* From the own index to behind the frame, with the padding that would bring it to the data's beginning. */
static inline uint64_t span(const struct ring_end *end, uint64_t length, uint64_t *padding)
{
    uint64_t left = end->size - (end->mine & (end->size - 1));
    uint64_t need = frame_size(length);

    *padding = left < need ? left : 0;
    return *padding + need;
}

int ring_reserve(struct ring_end *end, uint64_t length, uint8_t **payload)
{
    uint64_t padding, whole;
    int status;

    if (end->fault != RING_SOUND)
        return RING_POISONED;
    if (length > ring_limit(end))
        return RING_TOO_LONG;
    if (cut(end))
        return ring_poison(end, RING_CUT_OFF);
    if ((status = peer_state(end)) != RING_OK)
        return status;
    whole = span(end, length, &padding);
    if (end->mine + whole - end->theirs > end->size) {
        if ((status = look(end)) != RING_OK)
            return status;
        if (end->mine + whole - end->theirs > end->size)
            return RING_AGAIN;
    }
    if (padding != 0) {
        store_header(end->data + (end->mine & (end->size - 1)), (uint32_t)padding - RING_FRAME, RING_PAD,
                     end->sequence++);
        end->mine += padding;
    }
    *payload = end->data + (end->mine & (end->size - 1)) + RING_FRAME;
    return RING_OK;
}

void ring_commit(struct ring_end *end, uint32_t length)
{
    store_header(end->data + (end->mine & (end->size - 1)), length, RING_DATA, end->sequence++);
    end->mine += frame_size(length);
}

/* RING_OK when something is there. The last frames may have come between the index's load and the state's. */
static int await_more(struct ring_end *end)
{
    int status = look(end);
    int state;

    if (status != RING_OK || end->theirs != end->mine)
        return status;
    state = peer_state(end);
    if (state != RING_FINISHED)
        return state == RING_OK ? RING_AGAIN : state;
    status = look(end);
    if (status != RING_OK || end->theirs != end->mine)
        return status;
    return RING_FINISHED;
}

int ring_next(struct ring_end *end, struct ring_frame *frame)
{
    if (end->fault != RING_SOUND)
        return RING_POISONED;
    for (;;) {
        uint64_t first, sequence, at, whole;
        uint32_t length, kind;

        if (end->mine == end->theirs) {
            int status = await_more(end);
            if (status != RING_OK)
                return status;
        }
        at = end->mine & (end->size - 1);
        load_header(end->data + at, &first, &sequence);
        length = (uint32_t)first;
        kind = (uint32_t)(first >> 32); /* type, and flags above it, which this version has none of */
        if (length > ring_limit(end))
            return ring_poison(end, RING_LENGTH);
        whole = frame_size(length);
        if (whole > end->theirs - end->mine || whole > end->size - at)
            return ring_poison(end, RING_OVERRUN);
        if (sequence != end->sequence)
            return ring_poison(end, RING_SEQUENCE);
        if (kind == RING_DATA) {
            frame->payload = end->data + at + RING_FRAME;
            frame->length = length;
            return RING_OK;
        }
        if (kind != RING_PAD)
            return ring_poison(end, RING_TYPE);
        if (whole != end->size - at)
            return ring_poison(end, RING_PADDING);
        /* Ends: at the data's beginning padding would have to be as long as the data, and that is too long. */
        end->sequence++;
        end->mine += whole;
    }
}

void ring_consume(struct ring_end *end, uint32_t length)
{
    end->sequence++;
    end->offset = 0;
    end->mine += frame_size(length);
}

/* A guest maps its segment write-combining, and such stores reach memory in any order: a release store, which is a plain
 * one on x86, does not wait for them (AMD64 manual, volume 2, 7.4; Intel SDM, volume 3, 12.3). */
static inline void drain_stores(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __asm__ __volatile__("sfence" ::: "memory");
#endif
}

bool ring_publish(struct ring_end *end)
{
    uint64_t before = end->published;
    uint64_t wanted;

    if (before == end->mine)
        return false;
    end->published = end->mine;
    drain_stores();
    atomic_store_explicit(&end->own->index, end->mine, memory_order_release);
    /* StoreLoad: the other end stores `wanted` and loads the index, this end the other way round. Without the fence
     * both may see the old values, and the other end sleeps for ever (tests/data/ring.pml). */
    atomic_thread_fence(memory_order_seq_cst);
    wanted = atomic_load_explicit(&end->peer->wanted, memory_order_relaxed);
    return before <= wanted && wanted < end->mine;
}

static bool want(struct ring_end *end, uint64_t past)
{
    atomic_store_explicit(&end->own->wanted, past, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* the other half of the one in ring_publish */
    return atomic_load_explicit(&end->peer->index, memory_order_relaxed) > past ||
           atomic_load_explicit(&end->peer->state, memory_order_relaxed) != RING_OPEN || cut(end) ||
           end->fault != RING_SOUND;
}

bool ring_want(struct ring_end *end, uint64_t need)
{
    uint64_t padding, past, half;

    if (end->role == RING_CONSUMER)
        return want(end, end->theirs);
    if (need > ring_limit(end)) /* a stream's: more than ever fits would never come */
        need = ring_limit(end);
    past = end->mine + span(end, need, &padding);
    if (past <= end->size) /* there is room on the first lap */
        return true;
    past -= end->size + 1;
    /* To be woken for each frame that was read costs more than to wait for half of the ring. */
    half = end->size / 2 + 1;
    if (end->mine >= half && end->mine - half > past)
        past = end->mine - half;
    return want(end, past);
}

bool ring_want_drained(struct ring_end *end)
{
    return end->published == 0 || want(end, end->published - 1);
}

int ring_drained(struct ring_end *end)
{
    int status;

    if (end->fault != RING_SOUND)
        return RING_POISONED;
    if ((status = look(end)) != RING_OK || end->theirs == end->published)
        return status;
    status = peer_state(end);
    return status == RING_OK ? RING_AGAIN : status;
}

static uint64_t nanoseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline bool moved(const struct ring_end *end)
{
    return atomic_load_explicit(&end->peer->index, memory_order_relaxed) != end->theirs ||
           atomic_load_explicit(&end->peer->state, memory_order_relaxed) != RING_OPEN || cut(end);
}

bool ring_spin(struct ring_end *end)
{
    uint64_t until = 0;
    uint32_t most = end->spin;

    if (end->spin_most == 0 || end->fault != RING_SOUND)
        return false;
    if (most < SPIN_LEAST) {
        if (++end->naps < SPIN_PROBE)
            return false;
        end->naps = 0;
        most = end->spin_most / 4;
    }
    for (unsigned looks = 0; !moved(end); looks++) {
        if (looks < SPIN_HOT)
            continue;
        relax();
        if (looks % SPIN_LOOKS == 0) {
            uint64_t time = nanoseconds();

            if (until == 0)
                until = time + most;
            if (time >= until) {
                end->spin /= 2;
                return false;
            }
        }
    }
    end->spin = end->spin_most;
    return true;
}

void ring_finish(struct ring_end *end)
{
    if (end->fault == RING_SOUND)
        set_state(end, RING_DONE);
}

int ring_put(struct ring_end *end, const void *data, uint64_t length)
{
    uint8_t *payload;
    int status = ring_reserve(end, length, &payload);

    if (status == RING_OK) {
        memcpy(payload, data, length);
        ring_commit(end, (uint32_t)length);
    }
    return status;
}

int ring_whole(struct ring_end *end)
{
    atomic_thread_fence(memory_order_acquire);
    return cut(end) ? ring_poison(end, RING_CUT_OFF) : RING_OK;
}

int ring_get(struct ring_end *end, void *data, uint64_t room, uint32_t *length)
{
    struct ring_frame frame;
    int status = ring_next(end, &frame);

    if (status != RING_OK)
        return status;
    if (frame.length > room)
        return RING_TOO_LONG;
    memcpy(data, frame.payload, frame.length);
    if ((status = ring_whole(end)) != RING_OK)
        return status;
    ring_consume(end, frame.length);
    *length = frame.length;
    return RING_OK;
}

int ring_write(struct ring_end *end, const void *data, uint64_t length, uint64_t *written)
{
    uint64_t most = ring_limit(end) < STREAM_FRAME ? ring_limit(end) : STREAM_FRAME;
    uint64_t part = length < most ? length : most;
    int status = part == 0 ? RING_OK : ring_put(end, data, part);

    *written = status == RING_OK ? part : 0;
    return status;
}

int ring_read(struct ring_end *end, void *data, uint64_t room, uint64_t *length)
{
    uint64_t part;

    *length = 0;
    if (end->offset == 0) {
        struct ring_frame frame;
        int status = ring_next(end, &frame);
        if (status != RING_OK)
            return status;
        if (frame.length == 0) /* nobody writes nothing, and a reader that gets nothing takes it for the end */
            return ring_poison(end, RING_LENGTH);
        end->begun = frame;
    } else if (end->fault != RING_SOUND) {
        return RING_POISONED;
    }
    part = end->begun.length - end->offset;
    if (part > room)
        part = room;
    memcpy(data, end->begun.payload + end->offset, part);
    if (ring_whole(end) != RING_OK)
        return RING_POISONED;
    end->offset += part;
    *length = part;
    if (end->offset == end->begun.length)
        ring_consume(end, end->begun.length);
    return RING_OK;
}
