/* What a producer's and a consumer's end have in common. */
#include "py.h"

PyObject *end_new(PyTypeObject *type, PyObject *args, PyObject *named, enum ring_role role)
{
    static char *names[] = {"own", "peer", "kind", "generation", "size", "ring", "spin", NULL};
    PyObject *own, *peer, *ring;
    int kind;
    unsigned int spin;
    unsigned long long generation, size;
    const char *wrong;
    End *self;

    if (!PyArg_ParseTupleAndKeywords(args, named, "OOiKKOI", names, &own, &peer, &kind, &generation, &size, &ring,
                                     &spin))
        return NULL;
    self = (End *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    if (PyObject_GetBuffer(own, &self->own, PyBUF_WRITABLE) < 0)
        goto failed;
    if (PyObject_GetBuffer(peer, &self->peer, PyBUF_SIMPLE) < 0) {
        PyBuffer_Release(&self->own);
        goto failed;
    }
    self->attached = true;
    wrong = ring_attach(&self->end, role, self->own.buf, (size_t)self->own.len, self->peer.buf,
                        (size_t)self->peer.len, (enum ring_kind)kind, generation, size, spin);
    if (wrong != NULL) {
        PyErr_SetString(PyExc_ValueError, wrong);
        goto failed;
    }
    Py_INCREF(ring);
    self->ring = ring;
    return (PyObject *)self;
failed:
    Py_DECREF(self);
    return NULL;
}

int end_traverse(End *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->ring);
    return 0;
}

int end_clear(End *self)
{
    Py_CLEAR(self->ring);
    return 0;
}

static void detach(End *self)
{
    if (self->attached) {
        self->attached = false;
        PyBuffer_Release(&self->own);
        PyBuffer_Release(&self->peer);
    }
}

void end_dealloc(End *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);

    PyObject_GC_UnTrack(self);
    detach(self);
    Py_CLEAR(self->ring);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

int tell(End *self)
{
    PyObject *done = self->ring == NULL ? NULL : PyObject_CallNoArgs(self->ring);

    if (done == NULL)
        return self->ring == NULL ? 0 : -1;
    Py_DECREF(done);
    return 0;
}

bool tell_whatever(End *self, bool failed)
{
    PyObject *type, *value, *trace;

    if (!failed)
        return tell(self) < 0;
    PyErr_Fetch(&type, &value, &trace);
    if (tell(self) < 0)
        PyErr_Clear();
    PyErr_Restore(type, value, trace);
    return true;
}

PyObject *answer(End *self, int status, enum ring_fault before)
{
    if (status == RING_POISONED && before == RING_SOUND && tell(self) < 0)
        return NULL;
    return PyLong_FromLong(status);
}

bool spin(End *self)
{
    bool outer = self->busy, moved;

    self->busy = true;
    Py_BEGIN_ALLOW_THREADS
    moved = ring_spin(&self->end);
    Py_END_ALLOW_THREADS
    self->busy = outer;
    return moved;
}

void copy(End *self, void *to, const void *from, size_t length)
{
    bool outer = self->busy;

    if (length < RELEASE_FROM) {
        memcpy(to, from, length);
        return;
    }
    self->busy = true;
    Py_BEGIN_ALLOW_THREADS
    memcpy(to, from, length);
    Py_END_ALLOW_THREADS
    self->busy = outer;
}

int go_on(End *self, int status, uint64_t part, bool allowed, bool *may_spin)
{
    if (part > 0) {
        *may_spin = allowed;
        return status;
    }
    if (status != RING_AGAIN || !*may_spin)
        return status;
    *may_spin = false;
    return ring_spin(&self->end) ? RING_OK : RING_AGAIN;
}

PyObject *end_want(End *self, PyObject *need)
{
    unsigned long long length = PyLong_AsUnsignedLongLong(need);

    if (length == (unsigned long long)-1 && PyErr_Occurred())
        return NULL;
    if (entered(self) != RING_OK)
        Py_RETURN_TRUE; /* the next call says why */
    return PyBool_FromLong(ring_want(&self->end, length));
}

PyObject *end_finish(End *self, PyObject *Py_UNUSED(none))
{
    if (entered(self) == RING_OK) {
        ring_finish(&self->end);
        if (tell(self) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *end_poison(End *self, PyObject *fault)
{
    long number = PyLong_AsLong(fault);
    enum ring_fault before = self->end.fault;

    if (number == -1 && PyErr_Occurred())
        return NULL;
    if (entered(self) != RING_OK)
        return PyLong_FromLong(entered(self));
    return answer(self, ring_poison(&self->end, (enum ring_fault)number), before);
}

PyObject *end_detach(End *self, PyObject *Py_UNUSED(none))
{
    if (self->busy)
        Py_RETURN_FALSE;
    detach(self);
    Py_RETURN_TRUE;
}

static PyObject *end_fault(End *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(self->end.fault);
}

static PyObject *end_limit(End *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(ring_limit(&self->end));
}

static PyObject *end_seen(End *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(self->end.theirs);
}

PyGetSetDef end_attributes[] = {
    {"seen", (getter)end_seen, NULL, NULL, NULL},
    {"fault", (getter)end_fault, NULL, NULL, NULL},
    {"limit", (getter)end_limit, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
