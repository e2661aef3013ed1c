/* The ring between two ends that don't trust each other: the layout of its memory, and the rules of reading it.
 *
 * No Python, no allocation, no system call: a guest's end, a fuzzer and the extension module are built from the same
 * two files. docs/ring.md describes the same bytes for another language.
 *
 * Two segments, split by writer. The producer writes the first and may only read the second; the consumer the other way
 * round. Whatever lies in the other end's segment can change at any moment, so it is loaded once, with one atomic load,
 * and checked afterwards. An end never reads its own segment back, but for one word: its own state, in which nobody but
 * whoever set the channel up can write RING_CUT. So an end that has no reason to sleep learns of the cut too.
 */
#ifndef SEPTUM_RING_H
#define SEPTUM_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_MAGIC UINT64_C(0x474e495254504553) /* the bytes "SEPTRING" */
#define RING_VERSION 1u
#define RING_PAGE 4096u  /* of each segment, before the producer's data */
#define RING_FRAME 16u   /* bytes of a frame's header; frames are aligned to it */
#define RING_SIZE_MIN (UINT64_C(1) << 12)
#define RING_SIZE_MAX (UINT64_C(1) << 30)
#define RING_LINE 128u   /* two cache lines: x86 prefetches the neighbour */

enum ring_role { RING_PRODUCER = 1, RING_CONSUMER = 2 };
enum ring_kind { RING_MESSAGES = 1, RING_BYTES = 2 };
enum ring_state { RING_OPEN = 0, RING_DONE = 1, RING_BROKEN = 2, RING_CUT = 3 };
enum ring_type { RING_DATA = 1, RING_PAD = 2 };

/* The first page of a segment. */
struct ring_side {
    uint64_t magic;
    uint32_t version;
    uint16_t role;
    uint16_t kind;
    uint64_t generation;
    uint64_t size; /* of the data, in bytes: a power of two */
    /* Bytes written (producer) or read (consumer) since the ring was made; never wraps. */
    _Alignas(RING_LINE) _Atomic uint64_t index;
    /* "Ring my bell when your index gets past this". */
    _Alignas(RING_LINE) _Atomic uint64_t wanted;
    _Atomic uint32_t state;
};

enum ring_status {
    RING_OK = 0,
    RING_AGAIN = -1,    /* nothing there, or no room, for now */
    RING_FINISHED = -2, /* the other end has closed, and all it sent was read */
    RING_POISONED = -3, /* `fault` says why; it stays so */
    RING_TOO_LONG = -4, /* the frame would not fit, or the caller's buffer is too small; nothing was changed */
};

/* What the other end did that it may not. */
enum ring_fault {
    RING_SOUND = 0,
    RING_INDEX_BACK,   /* its index went backwards */
    RING_INDEX_FAR,    /* its index passed what can be */
    RING_INDEX_ODD,    /* its index is not a multiple of 16 */
    RING_LENGTH,       /* a frame is longer than a quarter of the ring */
    RING_OVERRUN,      /* a frame reaches past what was published, or past the end of the data */
    RING_TYPE,         /* a frame has an unknown type or flags */
    RING_PADDING,      /* padding does not reach to the end of the data */
    RING_SEQUENCE,     /* a frame has not the next number: lost, repeated or from before */
    RING_STATE,        /* its state is none, or went back */
    RING_PEER_BROKE,   /* it says that this end broke the rules */
    RING_FLOOD,        /* it rings without news; found by who owns the bell */
    RING_CUT_OFF,      /* nothing: who set the channel up has cut it */
};

/* A frame that was checked, and where its payload lies. The payload can still change: copy, then parse. */
struct ring_frame {
    const uint8_t *payload;
    uint32_t length;
};

/* One end, in private memory. Fields are the core's own. */
struct ring_end {
    struct ring_side *own;
    const struct ring_side *peer;
    uint8_t *data; /* the producer's to write, the consumer's to read */
    uint64_t size;
    uint64_t mine;      /* own index, with what is not published yet */
    uint64_t published; /* own index as the other end may see it */
    uint64_t theirs;    /* the other end's index as last checked */
    uint64_t sequence;  /* of the next frame */
    struct ring_frame begun; /* the frame that a reader of a stream is in ... */
    uint64_t offset;         /* ... and the bytes of it that were read; 0: none is begun */
    uint32_t spin;      /* nanoseconds that the next spin may last; adapts */
    uint32_t spin_most; /* 0: never spin */
    uint32_t naps;      /* waits without a spin, since the last one */
    enum ring_role role;
    enum ring_fault fault;
};

/* Joins a ring. `own_length` and `peer_length` are the lengths of the mapped segments, which the caller has made sure
 * can't shrink. Everything else comes from whoever set the channel up, and both headers must say the same.
 * Returns NULL, or what is wrong. */
const char *ring_attach(struct ring_end *end, enum ring_role role, void *own, size_t own_length, const void *peer,
                        size_t peer_length, enum ring_kind kind, uint64_t generation, uint64_t size,
                        uint32_t spin_most);

/* The longest payload of a frame. */
static inline uint32_t ring_limit(const struct ring_end *end)
{
    return (uint32_t)(end->size / 4 - RING_FRAME);
}

/* Producer: finds room for a frame and says where its payload goes; `ring_commit` makes it a frame. */
int ring_reserve(struct ring_end *end, uint64_t length, uint8_t **payload);
void ring_commit(struct ring_end *end, uint32_t length);

/* Consumer: the next frame, which stays the next one until `ring_consume`. */
int ring_next(struct ring_end *end, struct ring_frame *frame);
void ring_consume(struct ring_end *end, uint32_t length);

/* Consumer, after it has copied and before it believes: RING_OK, unless the channel was cut meanwhile. Who cuts it
 * overwrites the data afterwards, so a copy that ended before the cut can be seen is whole. */
int ring_whole(struct ring_end *end);

/* Either: lets the other end see all that was committed or consumed. True: it sleeps, ring its bell. */
bool ring_publish(struct ring_end *end);

/* Says in shared memory past which index of the other end to ring; false: it is worth sleeping. `need` is the length
 * of the payload that a producer wants to send. True: look again now. */
bool ring_want(struct ring_end *end, uint64_t need);

/* The same for a producer that waits until all it sent was read. `ring_drained` says whether it was. */
bool ring_want_drained(struct ring_end *end);
int ring_drained(struct ring_end *end);

/* Looks at the other end's index for as long as it has paid lately. True: it moved, or its state did. */
bool ring_spin(struct ring_end *end);

/* Tells the other end that this one sends or reads no more. Ring its bell afterwards. */
void ring_finish(struct ring_end *end);

/* Gives the channel up, here and for the other end. The first fault stands. Returns RING_POISONED. */
int ring_poison(struct ring_end *end, enum ring_fault fault);

/* Copies: a whole message in, a whole message out, and as many bytes of a stream as there are or as fit. */
int ring_put(struct ring_end *end, const void *data, uint64_t length);
int ring_get(struct ring_end *end, void *data, uint64_t room, uint32_t *length);
int ring_write(struct ring_end *end, const void *data, uint64_t length, uint64_t *written);
int ring_read(struct ring_end *end, void *data, uint64_t room, uint64_t *length);

#endif
