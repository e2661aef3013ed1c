/* The producer's end. */
#include "py.h"

static PyObject *tx_new(PyTypeObject *type, PyObject *args, PyObject *named)
{
    return end_new(type, args, named, RING_PRODUCER);
}

/* Readable bytes of an object; `view->obj` is what to release. bytes need none, which saves a third of a small send. */
static inline int readable(PyObject *data, Py_buffer *view)
{
    view->obj = NULL;
    if (PyBytes_CheckExact(data))
        return PyBytes_AsStringAndSize(data, (char **)&view->buf, &view->len);
    return PyObject_GetBuffer(data, view, PyBUF_SIMPLE);
}

static inline void done_with(Py_buffer *view)
{
    if (view->obj != NULL)
        PyBuffer_Release(view);
}

static int put_one(End *self, Py_buffer *view)
{
    uint8_t *payload;
    int status = ring_reserve(&self->end, (uint64_t)view->len, &payload);

    if (status == RING_OK) {
        copy(self, payload, view->buf, (size_t)view->len);
        ring_commit(&self->end, (uint32_t)view->len);
    }
    return status;
}

static PyObject *tx_put(End *self, PyObject *const *args, Py_ssize_t count)
{
    enum ring_fault before = self->end.fault;
    Py_buffer view;
    int status;

    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "put takes data, and whether to spin");
        return NULL;
    }
    if (readable(args[0], &view) < 0)
        return NULL;
    if ((status = entered(self)) == RING_OK)
        status = put_one(self, &view);
    if (status == RING_AGAIN && args[1] == Py_True && spin(self))
        status = put_one(self, &view);
    done_with(&view);
    if (status == RING_OK && publish(self) < 0)
        return NULL;
    return answer(self, status, before);
}

static PyObject *tx_put_many(End *self, PyObject *const *args, Py_ssize_t count)
{
    enum ring_fault before = self->end.fault;
    Py_ssize_t first, at;
    bool failed = false;
    int status;

    if (count != 2 || !PyList_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "put_many takes a list, and where to begin in it");
        return NULL;
    }
    first = PyLong_AsSsize_t(args[1]);
    if (first == -1 && PyErr_Occurred())
        return NULL;
    if ((status = entered(self)) != RING_OK)
        return PyLong_FromLong(status);
    self->busy = true;
    /* The list may change while the GIL is away or a bell is rung: its length is asked for each time. */
    for (at = first; at >= 0 && at < PyList_Size(args[0]) && status == RING_OK && !failed;) {
        Py_buffer view;
        PyObject *item = PyList_GetItem(args[0], at);

        Py_INCREF(item);
        failed = readable(item, &view) < 0;
        if (!failed) {
            status = put_one(self, &view);
            done_with(&view);
            at += status == RING_OK;
        }
        Py_DECREF(item);
        if (!failed && self->end.mine - self->end.published >= PUBLISH_EACH)
            failed = publish(self) < 0;
    }
    if (ring_publish(&self->end))
        failed = tell_whatever(self, failed) || failed;
    self->busy = false;
    if (failed)
        return NULL;
    return at > first ? PyLong_FromSsize_t(at - first) : answer(self, status, before);
}

static PyObject *tx_write(End *self, PyObject *const *args, Py_ssize_t count)
{
    enum ring_fault before = self->end.fault;
    Py_ssize_t at;
    Py_buffer view;
    uint64_t done = 0, part = 0;
    bool may_spin = count == 3 && args[2] == Py_True;
    int status;

    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "write takes data, where to begin in it, and whether to spin");
        return NULL;
    }
    at = PyLong_AsSsize_t(args[1]);
    if (at == -1 && PyErr_Occurred())
        return NULL;
    if (readable(args[0], &view) < 0)
        return NULL;
    if (at < 0 || at > view.len) {
        done_with(&view);
        PyErr_SetString(PyExc_ValueError, "write begins within the data");
        return NULL;
    }
    if ((status = entered(self)) != RING_OK) {
        done_with(&view);
        return PyLong_FromLong(status);
    }
    self->busy = true;
    while (status == RING_OK && done < (uint64_t)(view.len - at)) {
        const char *from = (const char *)view.buf + at + done;
        uint64_t left = (uint64_t)(view.len - at) - done;
        bool wake = false;

        if (left >= RELEASE_FROM) {
            Py_BEGIN_ALLOW_THREADS
            do {
                status = ring_write(&self->end, from, left, &part);
                wake = ring_publish(&self->end);
                done += part, from += part, left -= part;
                status = go_on(self, status, part, args[2] == Py_True, &may_spin);
            } while (status == RING_OK && left > 0 && !wake);
            Py_END_ALLOW_THREADS
        } else {
            status = ring_write(&self->end, from, left, &part);
            wake = ring_publish(&self->end);
            done += part;
        }
        if (wake && tell(self) < 0) {
            self->busy = false;
            done_with(&view);
            return NULL;
        }
    }
    self->busy = false;
    done_with(&view);
    return done > 0 || status == RING_OK ? PyLong_FromUnsignedLongLong(done) : answer(self, status, before);
}

static PyObject *tx_drained(End *self, PyObject *Py_UNUSED(none))
{
    enum ring_fault before = self->end.fault;
    int status = entered(self);

    return answer(self, status == RING_OK ? ring_drained(&self->end) : status, before);
}

static PyObject *tx_want_drained(End *self, PyObject *Py_UNUSED(none))
{
    return PyBool_FromLong(entered(self) != RING_OK || ring_want_drained(&self->end));
}

static PyMethodDef tx_methods[] = {
    COMMON_METHODS,
    {"put", (PyCFunction)(void *)tx_put, METH_FASTCALL, NULL},
    {"put_many", (PyCFunction)(void *)tx_put_many, METH_FASTCALL, NULL},
    {"write", (PyCFunction)(void *)tx_write, METH_FASTCALL, NULL},
    {"drained", (PyCFunction)tx_drained, METH_NOARGS, NULL},
    {"want_drained", (PyCFunction)tx_want_drained, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot tx_slots[] = {
    {Py_tp_new, tx_new},           {Py_tp_dealloc, end_dealloc},     {Py_tp_traverse, end_traverse},
    {Py_tp_clear, end_clear},      {Py_tp_methods, tx_methods},      {Py_tp_getset, end_attributes},
    {0, NULL},
};
PyType_Spec tx_spec = {"septum.ivc._ring.Tx", sizeof(End), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, tx_slots};
