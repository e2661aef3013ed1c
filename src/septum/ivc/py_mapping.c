/* Shared memory as a buffer. Python's own mmap keeps a copy of the descriptor open for each mapping before 3.13. */
#include "py.h" /* first: Python.h says which functions the C library shows */

#include <sys/mman.h>

typedef struct {
    PyObject_HEAD
    void *start;
    Py_ssize_t length;
    int writable;
} Mapping;

static PyObject *mapping_new(PyTypeObject *type, PyObject *args, PyObject *named)
{
    static char *names[] = {"fd", "length", "writable", "offset", NULL};
    int fd, writable;
    Py_ssize_t length;
    long long offset = 0;
    void *start;
    Mapping *self;

    if (!PyArg_ParseTupleAndKeywords(args, named, "inp|L", names, &fd, &length, &writable, &offset))
        return NULL;
    if (length <= 0) {
        PyErr_SetString(PyExc_ValueError, "a mapping has at least one byte");
        return NULL;
    }
    start = mmap(NULL, (size_t)length, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED | MAP_POPULATE, fd,
                 (off_t)offset);
    if (start == MAP_FAILED)
        return PyErr_SetFromErrno(PyExc_OSError);
    self = (Mapping *)PyType_GenericAlloc(type, 0);
    if (self == NULL) {
        munmap(start, (size_t)length);
        return NULL;
    }
    self->start = start;
    self->length = length;
    self->writable = writable;
    return (PyObject *)self;
}

static void mapping_dealloc(Mapping *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);

    if (self->start != NULL)
        munmap(self->start, (size_t)self->length);
    PyObject_Free(self);
    Py_DECREF(type);
}

static int mapping_getbuffer(Mapping *self, Py_buffer *view, int flags)
{
    return PyBuffer_FillInfo(view, (PyObject *)self, self->start, self->length, !self->writable, flags);
}

static PyType_Slot mapping_slots[] = {
    {Py_tp_new, mapping_new},
    {Py_tp_dealloc, mapping_dealloc},
    {Py_bf_getbuffer, mapping_getbuffer},
    {Py_tp_doc, "Mapping(fd, length, writable, offset=0)\n--\n\nShared memory; unmapped with the last reference."},
    {0, NULL},
};
PyType_Spec mapping_spec = {"septum.ivc._ring.Mapping", sizeof(Mapping), 0, Py_TPFLAGS_DEFAULT, mapping_slots};
