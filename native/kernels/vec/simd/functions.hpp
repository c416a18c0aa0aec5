// What the files of this folder put into the table of their instruction set (table.cpp).
#pragma once

#include "kernels/vec/simd/vec.hpp"
#include "kernels/vec/table.hpp"

namespace mxpipe::MXPIPE_ISA {

BlockFunction operation(Opcode opcode, RegisterType type);  // operations.cpp
BlockFunction pair(Opcode first, Opcode second, bool on_left);
BlockFunction convert(RegisterType from, RegisterType to);  // conversions.cpp
BlockFunction round_to(DType dtype);
BlockFunction load_function(DType dtype);
BlockFunction store_function(DType dtype);
void stream(const BlockCall& call);
void random_uniform(float* destination, std::int64_t first, std::int64_t count, RandomKey key);  // philox.cpp
void random_normal(float* destination, std::int64_t first, std::int64_t count, RandomKey key);
ReduceFunctions reduce_functions(Reduction reduction, DType dtype);  // reduce.cpp
BatchNormFunctions batch_norm_functions(DType dtype);                // batch_norm.cpp
LayerNormFunctions layer_norm_functions(DType dtype);                // layer_norm.cpp
SoftmaxFunctions softmax_functions(DType dtype);                     // softmax.cpp
template <typename T>
RowFunctions<T> make_row_functions();  // rows.cpp
template <typename T>
RecurrentFunctions<T> make_recurrent_functions();  // recurrent.cpp
template <typename T>
CsrFunctions make_csr_functions();              // csr.cpp
AttentionFunctions make_attention_functions();  // attention.cpp

}  // namespace mxpipe::MXPIPE_ISA
