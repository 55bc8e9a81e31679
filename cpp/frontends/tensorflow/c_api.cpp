#include "c_api.h"

#include <dlfcn.h>

namespace fastconv::tf {

#define FASTCONV_TF_DEFINE(name, result, arguments) result(*name) arguments = nullptr;
FASTCONV_TF_FUNCTIONS(FASTCONV_TF_DEFINE)
#undef FASTCONV_TF_DEFINE

const char* find_functions() {
    void* library = dlopen("libtensorflow_framework.so.2", RTLD_NOW | RTLD_NOLOAD);
    if (library == nullptr) return "libtensorflow_framework.so.2";
#define FASTCONV_TF_FIND(name, result, arguments)                                                                      \
    name = reinterpret_cast<result(*) arguments>(dlsym(library, #name));                                               \
    if (name == nullptr) return #name;
    FASTCONV_TF_FUNCTIONS(FASTCONV_TF_FIND)
#undef FASTCONV_TF_FIND
    return nullptr; // never closed, since TensorFlow is never unloaded either
}

} // namespace fastconv::tf
