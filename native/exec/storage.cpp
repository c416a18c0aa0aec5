#include "exec/storage.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace mxpipe {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kMostCached = std::size_t{1} << 30;
constexpr std::size_t kSmall = 1024;    // bytes: blocks that threads keep to themselves
constexpr std::size_t kMostSmall = 32;  // of each size

// Four sizes an octave: at most 25% is wasted and freed blocks are found again.
std::size_t size_class(std::size_t bytes) {
  bytes = std::max(bytes, kAlignment);
  std::size_t power = std::size_t{1} << (63 - __builtin_clzll(bytes));
  const std::size_t step = std::max(power / 4, kAlignment);
  return (bytes + step - 1) / step * step;
}

std::byte* fresh_block(std::size_t capacity) {
  const std::size_t alignment = capacity >= kHugePage ? kHugePage : kAlignment;
  void* block = std::aligned_alloc(alignment, (capacity + alignment - 1) / alignment * alignment);
  if (!block) throw std::bad_alloc();
#if defined(__linux__)
  if (capacity >= kHugePage) madvise(block, capacity, MADV_HUGEPAGE);
#endif
  return static_cast<std::byte*>(block);
}

class BlockCache {
 public:
  std::byte* take(std::size_t capacity) {
    const std::scoped_lock lock(mutex_);
    auto& blocks = free_[capacity];
    if (blocks.empty()) return fresh_block(capacity);
    std::byte* block = blocks.back();
    blocks.pop_back();
    cached_ -= capacity;
    return block;
  }

  void give_back(std::byte* block, std::size_t capacity) {
    const std::scoped_lock lock(mutex_);
    if (cached_ + capacity > kMostCached) return std::free(block);
    cached_ += capacity;
    free_[capacity].push_back(block);
  }

  void release() {
    const std::scoped_lock lock(mutex_);
    for (auto& entry : free_) {
      for (std::byte* block : entry.second) std::free(block);
      entry.second.clear();
    }
    cached_ = 0;
  }

  std::size_t cached() {
    const std::scoped_lock lock(mutex_);
    return cached_;
  }

 private:
  std::mutex mutex_;
  std::map<std::size_t, std::vector<std::byte*>> free_;
  std::size_t cached_ = 0;
};

BlockCache& cache() {
  static BlockCache* shared = new BlockCache;  // never destroyed: arrays may outlive static destruction
  return *shared;
}

// The small blocks that a thread freed last, by size. Plain data: it may be used, closed, after the thread's
// other objects are gone.
struct SmallBlocks {
  std::array<std::array<std::byte*, kMostSmall>, kSmall / kAlignment> blocks;
  std::array<std::size_t, kSmall / kAlignment> counts;
  bool open;
};
thread_local SmallBlocks small_blocks;

// Opens the thread's list; at its end gives the blocks back to all.
struct SmallBlocksOwner {
  SmallBlocksOwner() { small_blocks.open = true; }
  ~SmallBlocksOwner() {
    small_blocks.open = false;
    for (std::size_t size = 0; size < small_blocks.counts.size(); ++size) {
      for (std::size_t i = 0; i < small_blocks.counts[size]; ++i)
        cache().give_back(small_blocks.blocks[size][i], (size + 1) * kAlignment);
    }
  }
};

std::byte* take_block(std::size_t capacity) {
  SmallBlocks& own = small_blocks;
  const std::size_t size = capacity / kAlignment - 1;
  if (capacity > kSmall || own.counts[size] == 0 || !own.open) return cache().take(capacity);
  return own.blocks[size][--own.counts[size]];
}

void give_back_block(std::byte* block, std::size_t capacity) {
  SmallBlocks& own = small_blocks;
  const std::size_t size = capacity / kAlignment - 1;
  if (capacity > kSmall) return cache().give_back(block, capacity);
  if (!own.open) static thread_local SmallBlocksOwner owner;
  if (!own.open || own.counts[size] == kMostSmall) return cache().give_back(block, capacity);
  own.blocks[size][own.counts[size]++] = block;
}

std::atomic<std::size_t> used_bytes{0};
std::atomic<std::size_t> peak_bytes{0};

void count_used(std::size_t capacity) {
  const std::size_t used = used_bytes.fetch_add(capacity, std::memory_order_relaxed) + capacity;
  std::size_t peak = peak_bytes.load(std::memory_order_relaxed);
  while (used > peak && !peak_bytes.compare_exchange_weak(peak, used, std::memory_order_relaxed)) {
  }
}

}  // namespace

std::shared_ptr<Storage> Storage::allocate(std::size_t bytes) {
  const std::size_t capacity = size_class(bytes);
  std::byte* block = take_block(capacity);
  count_used(capacity);
  return std::make_shared<Storage>(Passkey{}, block, bytes, capacity, nullptr);
}

std::shared_ptr<Storage> Storage::wrap(void* data, std::size_t bytes, std::function<void()> release) {
  auto storage =
      std::make_shared<Storage>(Passkey{}, static_cast<std::byte*>(data), bytes, 0, std::move(release));
  storage->expose();
  return storage;
}

std::shared_ptr<Storage> Storage::wrap_read_only(const void* data, std::size_t bytes,
                                                 std::function<void()> release) {
  auto* bytes_at = static_cast<std::byte*>(const_cast<void*>(data));  // is_read_only() keeps writers away
  auto storage = std::make_shared<Storage>(Passkey{}, bytes_at, bytes, 0, std::move(release));
  storage->read_only_ = true;
  return storage;
}

Storage::~Storage() {
  if (release_) {
    release_();
  } else {
    used_bytes.fetch_sub(capacity_, std::memory_order_relaxed);
    give_back_block(data_, capacity_);
  }
}

MemoryStatistics memory_statistics() { return {used_bytes, peak_bytes, cache().cached()}; }
void reset_peak_memory() { peak_bytes = used_bytes.load(); }
void release_cached_memory() { cache().release(); }

}  // namespace mxpipe
