// From a dtype to a C++ type: dispatch_*(dtype, []<typename T>() { ... }).
#pragma once

#include <cstdint>

#include "graph/dtype.hpp"
#include "graph/error.hpp"

namespace mxpipe {

// The numbers that C++ computes with; bool, float16 and bfloat16 are not among them.
template <typename Body>
auto dispatch_number(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::float32:
      return body.template operator()<float>();
    case DType::float64:
      return body.template operator()<double>();
    case DType::int8:
      return body.template operator()<std::int8_t>();
    case DType::int16:
      return body.template operator()<std::int16_t>();
    case DType::int32:
      return body.template operator()<std::int32_t>();
    case DType::int64:
      return body.template operator()<std::int64_t>();
    case DType::uint8:
      return body.template operator()<std::uint8_t>();
    case DType::uint16:
      return body.template operator()<std::uint16_t>();
    case DType::uint32:
      return body.template operator()<std::uint32_t>();
    case DType::uint64:
      return body.template operator()<std::uint64_t>();
    default:
      break;
  }
  fail(ErrorKind::internal, "dispatch", "the dtype must be a number; got ", dtype, ".");
}

// For kernels that only move elements: an unsigned integer of the same size.
template <typename Body>
auto dispatch_size(DType dtype, const Body& body) {
  switch (size_of(dtype)) {
    case 1:
      return body.template operator()<std::uint8_t>();
    case 2:
      return body.template operator()<std::uint16_t>();
    case 4:
      return body.template operator()<std::uint32_t>();
    default:
      return body.template operator()<std::uint64_t>();
  }
}

}  // namespace mxpipe
