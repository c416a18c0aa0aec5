// Memory. Blocks come from a cache of freed blocks (fresh pages cost more than most kernels); large ones ask
// for huge pages; each thread keeps a few small ones to itself, so that an eager call on small arrays takes
// no lock. Who calls: Array and Plan only.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace mxpipe {

class Storage {
  struct Passkey {};  // for make_shared, which needs a public constructor

 public:
  Storage(Passkey, std::byte* data, std::size_t bytes, std::size_t capacity, std::function<void()> release)
      : data_(data), bytes_(bytes), capacity_(capacity), release_(std::move(release)) {}
  static std::shared_ptr<Storage> allocate(std::size_t bytes);
  // Foreign memory, kept alive and given back by `release`; its owner may write it unseen (see expose).
  static std::shared_ptr<Storage> wrap(void* data, std::size_t bytes, std::function<void()> release);
  // Foreign memory that nobody writes, such as a file mapped into several processes.
  static std::shared_ptr<Storage> wrap_read_only(const void* data, std::size_t bytes,
                                                 std::function<void()> release);

  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

  // Counts overwrites, so that backward notices a value that changed after it was recorded.
  std::uint64_t version() const { return version_.load(std::memory_order_relaxed); }
  void touch() { version_.fetch_add(1, std::memory_order_relaxed); }

  bool is_read_only() const { return read_only_; }

  // Whether every overwrite is counted: not of foreign memory that its owner may write, nor of memory that
  // has been handed out as a buffer.
  bool counts_overwrites() const { return !exposed_.load(std::memory_order_relaxed); }
  void expose() { exposed_.store(true, std::memory_order_relaxed); }

 private:
  std::byte* data_;
  std::size_t bytes_;
  std::size_t capacity_;
  std::function<void()> release_;  // of foreign memory
  std::atomic<std::uint64_t> version_{0};
  std::atomic<bool> exposed_{false};
  bool read_only_ = false;
};

struct MemoryStatistics {
  std::size_t used = 0;    // bytes in live arrays and arenas
  std::size_t peak = 0;    // the most that `used` has been
  std::size_t cached = 0;  // bytes freed and kept for reuse
};

MemoryStatistics memory_statistics();
void reset_peak_memory();
void release_cached_memory();

}  // namespace mxpipe
