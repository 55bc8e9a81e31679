// The part of TensorFlow's C API that the ops need. The declarations are copied here, so that the build needs no
// TensorFlow (from tensorflow/c/{c_api,kernels,ops,tf_status,tf_tensor}.h; the C ABI is the same from 2.16 on).
//
// The functions are looked up in libtensorflow_framework.so.2, which must be loaded already. Plain undefined symbols
// would fail if Python has loaded TensorFlow with RTLD_LOCAL.
#pragma once

#include <cstddef>
#include <cstdint>

struct TF_Status;
struct TF_Tensor;
struct TF_OpDefinitionBuilder;
struct TF_ShapeInferenceContext;
struct TF_ShapeHandle;
struct TF_DimensionHandle;
struct TF_KernelBuilder;
struct TF_OpKernelConstruction;
struct TF_OpKernelContext;

namespace fastconv::tf {

enum TypeCode : int { kFloat = 1, kDouble = 2, kUInt8 = 4, kInt64 = 9 };
enum Code : int { kOk = 0, kInvalidArgument = 3, kResourceExhausted = 8, kInternal = 13 };

using ShapeFunction = void (*)(TF_ShapeInferenceContext*, TF_Status*);
using CreateFunction = void* (*)(TF_OpKernelConstruction*);
using ComputeFunction = void (*)(void*, TF_OpKernelContext*);
using DeleteFunction = void (*)(void*);

// name, return type, arguments
#define FASTCONV_TF_FUNCTIONS(F)                                                                                       \
    F(TF_NewStatus, TF_Status*, ())                                                                                    \
    F(TF_DeleteStatus, void, (TF_Status*))                                                                             \
    F(TF_SetStatus, void, (TF_Status*, int, const char*))                                                              \
    F(TF_GetCode, int, (const TF_Status*))                                                                             \
    F(TF_Message, const char*, (const TF_Status*))                                                                     \
    F(TF_NewOpDefinitionBuilder, TF_OpDefinitionBuilder*, (const char*))                                               \
    F(TF_OpDefinitionBuilderAddAttr, void, (TF_OpDefinitionBuilder*, const char*))                                     \
    F(TF_OpDefinitionBuilderAddInput, void, (TF_OpDefinitionBuilder*, const char*))                                    \
    F(TF_OpDefinitionBuilderAddOutput, void, (TF_OpDefinitionBuilder*, const char*))                                   \
    F(TF_OpDefinitionBuilderSetShapeInferenceFunction, void, (TF_OpDefinitionBuilder*, ShapeFunction))                 \
    F(TF_RegisterOpDefinition, void, (TF_OpDefinitionBuilder*, TF_Status*))                                            \
    F(TF_NewShapeHandle, TF_ShapeHandle*, ())                                                                          \
    F(TF_DeleteShapeHandle, void, (TF_ShapeHandle*))                                                                   \
    F(TF_NewDimensionHandle, TF_DimensionHandle*, ())                                                                  \
    F(TF_DeleteDimensionHandle, void, (TF_DimensionHandle*))                                                           \
    F(TF_ShapeInferenceContextGetInput, void, (TF_ShapeInferenceContext*, int, TF_ShapeHandle*, TF_Status*))           \
    F(TF_ShapeInferenceContextSetOutput, void, (TF_ShapeInferenceContext*, int, TF_ShapeHandle*, TF_Status*))          \
    F(TF_ShapeInferenceContextSetUnknownShape, void, (TF_ShapeInferenceContext*, TF_Status*))                          \
    F(TF_ShapeInferenceContextRankKnown, int, (TF_ShapeInferenceContext*, TF_ShapeHandle*))                            \
    F(TF_ShapeInferenceContextRank, std::int64_t, (TF_ShapeInferenceContext*, TF_ShapeHandle*))                        \
    F(TF_ShapeInferenceContextDim, void,                                                                               \
      (TF_ShapeInferenceContext*, TF_ShapeHandle*, std::int64_t, TF_DimensionHandle*))                                 \
    F(TF_ShapeInferenceContextConcatenateShapes, void,                                                                 \
      (TF_ShapeInferenceContext*, TF_ShapeHandle*, TF_ShapeHandle*, TF_ShapeHandle*, TF_Status*))                      \
    F(TF_ShapeInferenceContextScalar, TF_ShapeHandle*, (TF_ShapeInferenceContext*))                                    \
    F(TF_ShapeInferenceContextVectorFromSize, TF_ShapeHandle*, (TF_ShapeInferenceContext*, std::size_t))               \
    F(TF_DimensionHandleValueKnown, int, (TF_DimensionHandle*))                                                        \
    F(TF_DimensionHandleValue, std::int64_t, (TF_DimensionHandle*))                                                    \
    F(TF_NewKernelBuilder, TF_KernelBuilder*,                                                                          \
      (const char*, const char*, CreateFunction, ComputeFunction, DeleteFunction))                                     \
    F(TF_KernelBuilder_TypeConstraint, void, (TF_KernelBuilder*, const char*, int, TF_Status*))                        \
    F(TF_OpKernelConstruction_GetAttrBool, void, (TF_OpKernelConstruction*, const char*, unsigned char*, TF_Status*))  \
    F(TF_OpKernelConstruction_Failure, void, (TF_OpKernelConstruction*, TF_Status*))                                   \
    F(TF_OpKernelConstruction_GetAttrSize, void,                                                                       \
      (TF_OpKernelConstruction*, const char*, std::int32_t*, std::int32_t*, TF_Status*))                               \
    F(TF_OpKernelConstruction_GetAttrString, void,                                                                     \
      (TF_OpKernelConstruction*, const char*, char*, std::size_t, TF_Status*))                                         \
    F(TF_RegisterKernelBuilder, void, (const char*, TF_KernelBuilder*, TF_Status*))                                    \
    F(TF_GetInput, void, (TF_OpKernelContext*, int, TF_Tensor**, TF_Status*))                                          \
    F(TF_AllocateOutput, TF_Tensor*,                                                                                   \
      (TF_OpKernelContext*, int, int, const std::int64_t*, int, std::size_t, TF_Status*))                              \
    F(TF_ForwardInputOrAllocateOutput, TF_Tensor*,                                                                     \
      (TF_OpKernelContext*, const int*, int, int, const std::int64_t*, int, int*, TF_Status*))                         \
    F(TF_OpKernelContext_Failure, void, (TF_OpKernelContext*, TF_Status*))                                             \
    F(TF_TensorType, int, (const TF_Tensor*))                                                                          \
    F(TF_NumDims, int, (const TF_Tensor*))                                                                             \
    F(TF_Dim, std::int64_t, (const TF_Tensor*, int))                                                                   \
    F(TF_TensorData, void*, (const TF_Tensor*))                                                                        \
    F(TF_DeleteTensor, void, (TF_Tensor*))

#define FASTCONV_TF_DECLARE(name, result, arguments) extern result(*name) arguments;
FASTCONV_TF_FUNCTIONS(FASTCONV_TF_DECLARE)
#undef FASTCONV_TF_DECLARE

/// Looks up all functions. Returns the name of the first one that is missing, or null.
const char* find_functions();

} // namespace fastconv::tf
