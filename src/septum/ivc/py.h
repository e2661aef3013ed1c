/* The ring core for Python: what its parts share. septum/ivc/_ring.pyi describes the calls.
 *
 * Calls answer with what was asked for or with a negative status; wording errors, sleeping and timeouts are Python's.
 * The limited API is enough: what it costs is in docs/decisions/0021-ring-core-in-c.md.
 *
 * An end is used by one thread at a time. Where the GIL is given up, `busy` is set; another thread gets BUSY meanwhile,
 * and neither can unmap the memory under the other.
 */
#ifndef SEPTUM_PY_H
#define SEPTUM_PY_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>

#include <string.h>

#include "ring.h"

#define BUSY (-5)          /* beside enum ring_status */
#define RELEASE_FROM 32768 /* bytes from which on a copy takes longer than giving the GIL up and getting it back */
#define PUBLISH_EACH 65536 /* bytes after which a batch lets the other end begin */

typedef struct {
    PyObject_HEAD
    struct ring_end end;
    Py_buffer own, peer;
    PyObject *ring; /* called without arguments when the other end wants its bell rung */
    bool attached, viewing;
    bool busy; /* in a call: another thread's, or this one's that runs Python (a bell, a finaliser, a buffer) */
} End;

/* py_end.c */
PyObject *end_new(PyTypeObject *type, PyObject *args, PyObject *named, enum ring_role role);
int end_traverse(End *self, visitproc visit, void *arg);
int end_clear(End *self);
void end_dealloc(End *self);
PyObject *end_want(End *self, PyObject *need);
PyObject *end_finish(End *self, PyObject *none);
PyObject *end_poison(End *self, PyObject *fault);
PyObject *end_detach(End *self, PyObject *none);
extern PyGetSetDef end_attributes[];

/* Rings the other end's bell; negative: it raised. The second is for when an error may be set already: what was
 * published is there for the other end all the same. True: an error is set. */
int tell(End *self);
bool tell_whatever(End *self, bool failed);

/* The status for Python. Who has just found a fault lets the other end know. */
PyObject *answer(End *self, int status, enum ring_fault before);

/* With the GIL given up. */
bool spin(End *self);
void copy(End *self, void *to, const void *from, size_t length);

/* Within a long copy: spins for more, once after each progress. An index that flickers could keep it here for ever. */
int go_on(End *self, int status, uint64_t part, bool allowed, bool *may_spin);

extern PyType_Spec mapping_spec, tx_spec, rx_spec;

/* What every call begins with, after all that may run Python: a negative status if the end can't be used now. */
static inline int entered(End *self)
{
    if (self->busy)
        return BUSY;
    return self->attached ? RING_OK : RING_FINISHED;
}

static inline int publish(End *self)
{
    return ring_publish(&self->end) ? tell(self) : 0;
}

#define COMMON_METHODS                                                                                                 \
    {"want", (PyCFunction)end_want, METH_O, NULL}, {"finish", (PyCFunction)end_finish, METH_NOARGS, NULL},             \
        {"poison", (PyCFunction)end_poison, METH_O, NULL}, {"detach", (PyCFunction)end_detach, METH_NOARGS, NULL}

#endif
