#include "exec/storage.hpp"

#include <algorithm>
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
    statistics_.used += capacity;
    statistics_.peak = std::max(statistics_.peak, statistics_.used);
    auto& blocks = free_[capacity];
    if (blocks.empty()) return fresh_block(capacity);
    std::byte* block = blocks.back();
    blocks.pop_back();
    statistics_.cached -= capacity;
    return block;
  }

  void give_back(std::byte* block, std::size_t capacity) {
    const std::scoped_lock lock(mutex_);
    statistics_.used -= capacity;
    if (statistics_.cached + capacity > kMostCached) return std::free(block);
    statistics_.cached += capacity;
    free_[capacity].push_back(block);
  }

  void release() {
    const std::scoped_lock lock(mutex_);
    for (auto& entry : free_) {
      for (std::byte* block : entry.second) std::free(block);
      entry.second.clear();
    }
    statistics_.cached = 0;
  }

  MemoryStatistics statistics() {
    const std::scoped_lock lock(mutex_);
    return statistics_;
  }

  void reset_peak() {
    const std::scoped_lock lock(mutex_);
    statistics_.peak = statistics_.used;
  }

 private:
  std::mutex mutex_;
  std::map<std::size_t, std::vector<std::byte*>> free_;
  MemoryStatistics statistics_;
};

BlockCache& cache() {
  static BlockCache* shared = new BlockCache;  // never destroyed: arrays may outlive static destruction
  return *shared;
}

}  // namespace

std::shared_ptr<Storage> Storage::allocate(std::size_t bytes) {
  const std::size_t capacity = size_class(bytes);
  return std::shared_ptr<Storage>(new Storage(cache().take(capacity), bytes, capacity, {}));
}

std::shared_ptr<Storage> Storage::wrap(void* data, std::size_t bytes, std::function<void()> release) {
  std::shared_ptr<Storage> storage(new Storage(static_cast<std::byte*>(data), bytes, 0, std::move(release)));
  storage->expose();
  return storage;
}

Storage::~Storage() {
  if (release_) {
    release_();
  } else {
    cache().give_back(data_, capacity_);
  }
}

MemoryStatistics memory_statistics() { return cache().statistics(); }
void reset_peak_memory() { cache().reset_peak(); }
void release_cached_memory() { cache().release(); }

}  // namespace mxpipe
