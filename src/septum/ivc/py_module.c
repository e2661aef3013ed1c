/* The module septum.ivc._ring. */
#include "py.h"

static int add_type(PyObject *module, PyType_Spec *spec, const char *name)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    int failed = type == NULL || PyModule_AddObjectRef(module, name, type) < 0;

    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static int fill(PyObject *module)
{
    static const struct {
        const char *name;
        long value;
    } numbers[] = {
        {"AGAIN", RING_AGAIN}, {"FINISHED", RING_FINISHED}, {"POISONED", RING_POISONED}, {"TOO_LONG", RING_TOO_LONG},
        {"BUSY", BUSY},        {"FLOOD", RING_FLOOD}, {"CUT_OFF", RING_CUT_OFF},
    };

    for (size_t at = 0; at < sizeof numbers / sizeof *numbers; at++)
        if (PyModule_AddIntConstant(module, numbers[at].name, numbers[at].value) < 0)
            return -1;
    if (add_type(module, &mapping_spec, "Mapping") < 0 || add_type(module, &tx_spec, "Tx") < 0)
        return -1;
    return add_type(module, &rx_spec, "Rx");
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, fill}, {0, NULL}};
static PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "septum.ivc._ring", "The ring core; see _ring.pyi.", 0, NULL, module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__ring(void)
{
    return PyModuleDef_Init(&module);
}
