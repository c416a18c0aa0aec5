// Ids: int32 or int64 positions that come from data, and therefore may be wrong.
#pragma once

#include <cstdint>
#include <string_view>

#include "graph/dtype.hpp"
#include "graph/error.hpp"

namespace mxpipe {

template <typename Body>
void dispatch_ids(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::int32:
      return body.template operator()<std::int32_t>();
    case DType::int64:
      return body.template operator()<std::int64_t>();
    default:
      fail(ErrorKind::op, "ids", "must be int32 or int64; got ", dtype, ".");
  }
}

[[noreturn, gnu::cold]] inline void fail_id(std::string_view op, std::int64_t id, std::int64_t low,
                                            std::int64_t high) {
  fail(ErrorKind::op, op, "an id must lie in [", low, ", ", high, "); got ", id, ".");
}

inline void require_id(std::string_view op, std::int64_t id, std::int64_t low, std::int64_t high) {
  if (id < low || id >= high) [[unlikely]]
    fail_id(op, id, low, high);
}

}  // namespace mxpipe
