// Whole arrays and single rows of bytes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/parallel.hpp"

namespace mxpipe {

inline constexpr std::int64_t kBytesPerChunk = std::int64_t{1} << 18;

inline void fill_zero(void* destination, std::size_t bytes) {
  parallel_for(static_cast<std::int64_t>(bytes), kBytesPerChunk, [&](std::int64_t begin, std::int64_t end) {
    std::memset(static_cast<std::byte*>(destination) + begin, 0, static_cast<std::size_t>(end - begin));
  });
}

inline void copy_bytes(const void* source, void* destination, std::size_t bytes) {
  parallel_for(static_cast<std::int64_t>(bytes), kBytesPerChunk, [&](std::int64_t begin, std::int64_t end) {
    std::memcpy(static_cast<std::byte*>(destination) + begin, static_cast<const std::byte*>(source) + begin,
                static_cast<std::size_t>(end - begin));
  });
}

// Asks for the first lines of row `row` of a table, which may lie anywhere: a prefetch cannot fail. Worth it
// kRowsAhead rows before their turn, where ids name rows at random.
inline constexpr std::int64_t kRowsAhead = 16;
inline void prefetch_row(const void* table, std::int64_t row, std::size_t bytes) {
  constexpr std::size_t kLine = 64, kMostLines = 4;  // the processor sees by itself how it goes on
  const auto start = reinterpret_cast<std::uintptr_t>(table) + static_cast<std::uintptr_t>(row) * bytes;
  for (std::size_t offset = 0; offset < std::min(bytes, kMostLines * kLine); offset += kLine) {
    __builtin_prefetch(reinterpret_cast<const void*>(start + offset));
  }
}

// Rows are often a few words: a call of memcpy would cost more than the copy.
inline void copy_row(void* destination, const void* source, std::size_t bytes) {
  switch (bytes) {
    case 4:
      std::memcpy(destination, source, 4);
      return;
    case 8:
      std::memcpy(destination, source, 8);
      return;
    case 16:
      std::memcpy(destination, source, 16);
      return;
    case 32:
      std::memcpy(destination, source, 32);
      return;
    case 64:
      std::memcpy(destination, source, 64);
      return;
    default:
      std::memcpy(destination, source, bytes);
      return;
  }
}

}  // namespace mxpipe
