// Which instruction set runs. Chosen once at load by what the processor has; the environment variable
// MXPIPE_ISA (portable, avx2, avx512) asks for a lesser one.
#pragma once

#include <vector>

#include "kernels/vec/table.hpp"

namespace mxpipe {

const IsaTable& isa();                       // the chosen one
std::vector<const IsaTable*> usable_isas();  // all that this processor runs, best last

template <typename T>
const RowFunctions<T>& row_functions() {
  if constexpr (sizeof(T) == sizeof(float)) {
    return isa().rows;
  } else {
    return isa().double_rows;
  }
}

template <typename T>
const RecurrentFunctions<T>& recurrent_functions() {
  if constexpr (sizeof(T) == sizeof(float)) {
    return isa().recurrent;
  } else {
    return isa().double_recurrent;
  }
}

}  // namespace mxpipe
