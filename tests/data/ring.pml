/* The protocol of src/septum/ivc/ring.c between two honest ends, on a machine with store buffers (x86's memory model:
 * what an end has stored may be in its buffer while its next loads look at memory).
 *
 * Spin looks at every interleaving: no end sleeps for ever (that is an invalid end state), nothing is read that is not
 * there, nothing is overwritten that was not read. Indices count frames of one unit.
 *
 * tests/test_ivc_model.py also breaks the protocol in each way that an #ifdef names, and expects spin to find it.
 */
#define SIZE 4
#define FRAMES 7

/* Places that a store goes to: the own index, `wanted`, the state, or a slot of data. */
#define INDEX 0
#define WANTED 1
#define STATE 2
#define DATA 3

byte prod, cons;                 /* each end's index, as memory has it */
byte prod_wanted, cons_wanted;   /* "ring when prod (cons) gets past this"; written by the other end */
bool done;                       /* the producer's state */
byte data[SIZE];
bool bell_c, bell_p;             /* the consumer's bell, the producer's */
chan buffer_p = [4] of { byte, byte };
chan buffer_c = [4] of { byte, byte };

#ifdef WITHOUT_PRODUCERS_FENCE
#define FENCE_P
#else
#define FENCE_P empty(buffer_p);
#endif
#ifdef WITHOUT_CONSUMERS_FENCE
#define FENCE_C
#else
#define FENCE_C empty(buffer_c);
#endif
#ifdef WITHOUT_FENCE_AT_THE_END
#define FENCE_E
#else
#define FENCE_E empty(buffer_p);
#endif

active proctype memory_p()
{
    byte where, value;
end:
    do
    :: atomic { buffer_p?where, value ->
        if
        :: where == INDEX -> prod = value
        :: where == WANTED -> cons_wanted = value
        :: where == STATE -> done = true
        :: else -> data[where - DATA] = value
        fi }
    od
}

active proctype memory_c()
{
    byte where, value;
end:
    do
    :: atomic { buffer_c?where, value ->
        if
        :: where == INDEX -> cons = value
        :: else -> prod_wanted = value
        fi }
    od
}

active proctype producer()
{
    byte mine, theirs, wanted, past;

    do
    :: mine == FRAMES -> break
    :: else ->
        /* ring_reserve */
        if
        :: mine + 1 - theirs > SIZE -> theirs = cons; assert(theirs <= mine)
        :: else
        fi;
        if
        :: mine + 1 - theirs > SIZE ->
            /* Python: clear the bell; ring_want; sleep */
            bell_p = false;
            past = mine - SIZE;
            if
            :: mine >= SIZE / 2 + 1 && mine - SIZE / 2 - 1 > past -> past = mine - SIZE / 2 - 1
            :: else
            fi;
            buffer_p!WANTED, past;
            FENCE_P
#ifdef WITHOUT_A_SECOND_LOOK
            bell_p
#else
            if
            :: cons > past
            :: else -> bell_p
            fi
#endif
        :: else ->
            /* ring_commit, ring_publish */
#ifdef INDEX_BEFORE_DATA
            buffer_p!INDEX, mine + 1;
            buffer_p!DATA + mine % SIZE, mine + 1;
#else
            buffer_p!DATA + mine % SIZE, mine + 1;
            buffer_p!INDEX, mine + 1;
#endif
            FENCE_P
            wanted = prod_wanted;
            mine++;
            if
#ifdef RING_ONE_TOO_LATE
            :: mine - 1 < wanted && wanted < mine -> bell_c = true
#else
            :: mine - 1 <= wanted && wanted < mine -> bell_c = true
#endif
            :: else
            fi
        fi
    od;
    /* ring_finish */
    buffer_p!STATE, 1;
    FENCE_E
    bell_c = true
}

active proctype consumer()
{
    byte mine, theirs, wanted;

    do
    :: mine == theirs ->
        theirs = prod;
        assert(theirs >= mine && theirs - mine <= SIZE);
        if
        :: theirs != mine
        :: theirs == mine && done ->
#ifndef DONE_WITHOUT_A_SECOND_LOOK
            theirs = prod;
#endif
            if
            :: theirs == mine -> break
            :: else
            fi
        :: theirs == mine && !done ->
#ifdef CLEAR_AFTER_ASKING
            buffer_c!WANTED, theirs;
            FENCE_C
            if
            :: prod > theirs || done
            :: else -> bell_c = false; bell_c
            fi
#else
            bell_c = false;
            buffer_c!WANTED, theirs;
            FENCE_C
            if
            :: prod > theirs || done
            :: else -> bell_c
            fi
#endif
        fi
    :: else ->
        assert(data[mine % SIZE] == mine + 1);
        mine++;
        buffer_c!INDEX, mine;
        FENCE_C
        wanted = cons_wanted;
        if
        :: mine - 1 <= wanted && wanted < mine -> bell_p = true
        :: else
        fi
    od;
    assert(mine == FRAMES)
}
