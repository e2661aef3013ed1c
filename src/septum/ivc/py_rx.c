/* The consumer's end. */
#include "py.h"

static PyObject *rx_new(PyTypeObject *type, PyObject *args, PyObject *named)
{
    return end_new(type, args, named, RING_CONSUMER);
}

/* The next frame, after a spin if nothing is there and one is asked for. */
static int next(End *self, struct ring_frame *frame, bool may_spin)
{
    int status = ring_next(&self->end, frame);

    return status == RING_AGAIN && may_spin && spin(self) ? ring_next(&self->end, frame) : status;
}

/* NULL without an exception: the channel was cut meanwhile. */
static PyObject *take(End *self, const struct ring_frame *frame)
{
    PyObject *data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)frame->length);

    if (data != NULL) {
        copy(self, PyBytes_AsString(data), frame->payload, frame->length);
        if (ring_whole(&self->end) == RING_OK)
            ring_consume(&self->end, frame->length);
        else
            Py_CLEAR(data);
    }
    return data;
}

static PyObject *rx_get(End *self, PyObject *may_spin)
{
    enum ring_fault before = self->end.fault;
    struct ring_frame frame;
    PyObject *data;
    int status = entered(self);

    if (status != RING_OK)
        return PyLong_FromLong(status);
    if ((status = next(self, &frame, may_spin == Py_True)) != RING_OK)
        return answer(self, status, before);
    data = take(self, &frame);
    if (data == NULL && self->end.fault != RING_SOUND)
        return answer(self, RING_POISONED, before);
    if (data != NULL && publish(self) < 0) {
        Py_DECREF(data);
        return NULL;
    }
    return data;
}

static PyObject *rx_get_many(End *self, PyObject *const *args, Py_ssize_t count)
{
    enum ring_fault before = self->end.fault;
    struct ring_frame frame;
    PyObject *found;
    uint64_t until;
    Py_ssize_t most;
    int status;

    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "get_many takes how many at most, and whether to spin");
        return NULL;
    }
    most = PyLong_AsSsize_t(args[0]);
    if (most == -1 && PyErr_Occurred())
        return NULL;
    if ((status = entered(self)) != RING_OK)
        return PyLong_FromLong(status);
    if ((status = next(self, &frame, args[1] == Py_True)) != RING_OK)
        return answer(self, status, before);
    until = self->end.theirs;
    self->busy = true;
    found = PyList_New(0);
    while (found != NULL && status == RING_OK) {
        PyObject *data = take(self, &frame);

        if (data == NULL && self->end.fault != RING_SOUND) {
            status = RING_POISONED;
            break;
        }
        if (data == NULL || PyList_Append(found, data) < 0)
            Py_CLEAR(found);
        Py_XDECREF(data);
        if (self->end.mine - self->end.published >= PUBLISH_EACH && publish(self) < 0)
            Py_CLEAR(found);
        /* What has come since would keep this going for ever, and take any amount of memory. */
        if (found == NULL || PyList_Size(found) >= most || self->end.mine >= until)
            break;
        status = ring_next(&self->end, &frame);
    }
    if (ring_publish(&self->end) && tell_whatever(self, found == NULL))
        Py_CLEAR(found);
    self->busy = false;
    if (found != NULL && status == RING_POISONED && PyList_Size(found) == 0) {
        Py_DECREF(found);
        return answer(self, status, before);
    }
    if (found != NULL && status == RING_POISONED && before == RING_SOUND && tell(self) < 0)
        Py_CLEAR(found);
    return found;
}

static PyObject *rx_get_into(End *self, PyObject *const *args, Py_ssize_t count)
{
    enum ring_fault before = self->end.fault;
    struct ring_frame frame;
    Py_buffer view;
    int status;

    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "get_into takes a buffer, and whether to spin");
        return NULL;
    }
    if (PyObject_GetBuffer(args[0], &view, PyBUF_WRITABLE) < 0)
        return NULL;
    if ((status = entered(self)) != RING_OK) {
        PyBuffer_Release(&view);
        return PyLong_FromLong(status);
    }
    status = next(self, &frame, args[1] == Py_True);
    if (status == RING_OK && frame.length > (uint64_t)view.len)
        status = RING_TOO_LONG;
    if (status == RING_OK) {
        copy(self, view.buf, frame.payload, frame.length);
        if ((status = ring_whole(&self->end)) == RING_OK)
            ring_consume(&self->end, frame.length);
    }
    PyBuffer_Release(&view);
    if (status != RING_OK)
        return answer(self, status, before);
    return publish(self) < 0 ? NULL : PyLong_FromUnsignedLong(frame.length);
}

static PyObject *rx_read_into(End *self, PyObject *const *args, Py_ssize_t count)
{
    enum ring_fault before = self->end.fault;
    Py_buffer view;
    uint64_t done = 0, part = 0;
    bool may_spin = count == 2 && args[1] == Py_True;
    int status;

    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "read_into takes a buffer, and whether to spin");
        return NULL;
    }
    if (PyObject_GetBuffer(args[0], &view, PyBUF_WRITABLE) < 0)
        return NULL;
    if ((status = entered(self)) != RING_OK) {
        PyBuffer_Release(&view);
        return PyLong_FromLong(status);
    }
    self->busy = true;
    while (status == RING_OK && done < (uint64_t)view.len) {
        char *to = (char *)view.buf + done;
        uint64_t left = (uint64_t)view.len - done;
        bool wake = false;

        if (left >= RELEASE_FROM) {
            Py_BEGIN_ALLOW_THREADS
            do {
                status = ring_read(&self->end, to, left, &part);
                wake = ring_publish(&self->end);
                done += part, to += part, left -= part;
                status = go_on(self, status, part, args[1] == Py_True, &may_spin);
            } while (status == RING_OK && left > 0 && !wake);
            Py_END_ALLOW_THREADS
        } else {
            status = ring_read(&self->end, to, left, &part);
            wake = ring_publish(&self->end);
            done += part;
            if (status == RING_AGAIN && may_spin && done == 0) {
                may_spin = false;
                status = spin(self) ? RING_OK : RING_AGAIN;
            }
        }
        if (wake && tell(self) < 0) {
            self->busy = false;
            PyBuffer_Release(&view);
            return NULL;
        }
    }
    self->busy = false;
    PyBuffer_Release(&view);
    return done > 0 || status == RING_OK ? PyLong_FromUnsignedLongLong(done) : answer(self, status, before);
}

static PyObject *slice(PyObject *memory, Py_ssize_t from, Py_ssize_t length)
{
    PyObject *whole = PyMemoryView_FromObject(memory);
    PyObject *first = PyLong_FromSsize_t(from), *last = PyLong_FromSsize_t(from + length);
    PyObject *range = first != NULL && last != NULL ? PySlice_New(first, last, NULL) : NULL;
    PyObject *part = whole != NULL && range != NULL ? PyObject_GetItem(whole, range) : NULL;

    Py_XDECREF(whole);
    Py_XDECREF(first);
    Py_XDECREF(last);
    Py_XDECREF(range);
    return part;
}

static PyObject *rx_peek(End *self, PyObject *may_spin)
{
    enum ring_fault before = self->end.fault;
    struct ring_frame frame;
    PyObject *view;
    int status = entered(self);

    if (status != RING_OK)
        return PyLong_FromLong(status);
    if ((status = next(self, &frame, may_spin == Py_True)) != RING_OK)
        return answer(self, status, before);
    view = slice(self->peer.obj, frame.payload - (const uint8_t *)self->peer.buf, (Py_ssize_t)frame.length);
    if (view == NULL)
        return NULL;
    /* Nothing else may be done with this end until the view is given back. */
    self->end.begun = frame;
    self->busy = self->viewing = true;
    return view;
}

static PyObject *rx_skip(End *self, PyObject *Py_UNUSED(none))
{
    if (self->viewing) {
        self->busy = self->viewing = false;
        ring_consume(&self->end, self->end.begun.length);
        if (publish(self) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef rx_methods[] = {
    COMMON_METHODS,
    {"get", (PyCFunction)rx_get, METH_O, NULL},
    {"get_many", (PyCFunction)(void *)rx_get_many, METH_FASTCALL, NULL},
    {"get_into", (PyCFunction)(void *)rx_get_into, METH_FASTCALL, NULL},
    {"read_into", (PyCFunction)(void *)rx_read_into, METH_FASTCALL, NULL},
    {"peek", (PyCFunction)rx_peek, METH_O, NULL},
    {"skip", (PyCFunction)rx_skip, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot rx_slots[] = {
    {Py_tp_new, rx_new},           {Py_tp_dealloc, end_dealloc},     {Py_tp_traverse, end_traverse},
    {Py_tp_clear, end_clear},      {Py_tp_methods, rx_methods},      {Py_tp_getset, end_attributes},
    {0, NULL},
};
PyType_Spec rx_spec = {"septum.ivc._ring.Rx", sizeof(End), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, rx_slots};
