// What the machine can do on the given number of threads: fp32 fused multiply-adds a second, bf16 dot products
// a second (vdpbf16ps and, where there are tiles, AMX; 0 where there is none), and bytes a second of a
// streaming copy and a triad. Prints one JSON line. Built by benchmarks/limits.py.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include <omp.h>
#if defined(__x86_64__)
#include <immintrin.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

constexpr int kLanes = 16;  // floats in a vector of 64 bytes; the compiler splits it where vectors are narrower
typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));
constexpr int kChains = 16;  // independent chains hide an instruction's latency
constexpr long kRounds = 400000;  // under 1 ms: some repeat goes undisturbed on a busy machine
constexpr int kRepeats = 200;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The best rate of `body` run on all threads at once; each does `work` operations.
template <typename Body>
double best_rate(double work, int repeats, const Body& body) {
  double best = 0;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const double start = now();
#pragma omp parallel
    body();
    best = std::max(best, work * omp_get_max_threads() / (now() - start));
  }
  return best;
}

void multiply_add() {
  Vector sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = Vector{} + static_cast<float>(i);
  Vector scale = Vector{} + 0.999f, shift = Vector{} + 0.001f;
  __asm__ volatile("" : "+m"(scale), "+m"(shift));
  for (long round = 0; round < kRounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sums[i] = sums[i] * scale + shift;
  }
  __asm__ volatile("" : : "m"(sums) : "memory");
}

double float_rate() { return best_rate(2.0 * kLanes * kChains * kRounds, kRepeats, multiply_add); }

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bf16"))) void dot_bfloat16() {
  __m512 sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  __m512i bits = _mm512_set1_epi16(0x3f00);
  __asm__ volatile("" : "+v"(bits));
  const __m512bh factor = reinterpret_cast<__m512bh>(bits);
  for (long round = 0; round < kRounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], factor, factor);
  }
  __asm__ volatile("" : : "m"(sums) : "memory");
}

double bfloat16_rate() {
  if (!__builtin_cpu_supports("avx512bf16")) return 0;
  return best_rate(4.0 * kLanes * kChains * kRounds, kRepeats, dot_bfloat16);
}

struct alignas(64) Tiles {  // eight tiles of 16 rows and 64 bytes
  std::uint8_t palette = 1, start = 0, zero[14] = {};
  std::uint16_t bytes[16] = {};
  std::uint8_t rows[16] = {};
};
constexpr long kTileRounds = 20000;

__attribute__((target("amx-tile,amx-bf16"))) void tile_products() {
  Tiles tiles;
  for (int i = 0; i < 8; ++i) tiles.bytes[i] = 64, tiles.rows[i] = 16;
  __asm__ volatile("" : : "r"(&tiles) : "memory");
  _tile_loadconfig(&tiles);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (long round = 0; round < kTileRounds; ++round) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
}

bool has_tiles() {
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
  __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(0));
  const bool present = (d >> 22 & 1) && (d >> 24 & 1);  // bf16 and tile
  return present && syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

double tile_rate() {
  if (!has_tiles()) return 0;
  return best_rate(4.0 * 16 * 16 * 32 * 2 * kTileRounds, kRepeats, tile_products);
}
#else
double bfloat16_rate() { return 0; }
double tile_rate() { return 0; }
#endif

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Floats = std::unique_ptr<float[], Free>;

Floats large_array(long size) {
  constexpr std::size_t kHuge = 2U << 20;
  const std::size_t bytes = static_cast<std::size_t>(size) * sizeof(float);
  void* memory = std::aligned_alloc(kHuge, bytes);
  if (!memory) std::exit(1);
#if defined(__x86_64__)
  madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  std::memset(memory, 0, bytes);
  return Floats(static_cast<float*>(memory));
}

struct Bandwidth {
  double copy = 0;
  double triad = 0;
};

// The copy goes by memcpy, which bypasses the caches at this size; both count every operand once.
Bandwidth bytes_per_second() {
  const long size = 64L << 20;
  const Floats a = large_array(size), b = large_array(size), c = large_array(size);
  Bandwidth best;
  for (int repeat = 0; repeat < 12; ++repeat) {
    double start = now();
#pragma omp parallel
    {
      const long parts = omp_get_num_threads(), part = omp_get_thread_num();
      const long begin = size / parts * part;
      std::memcpy(a.get() + begin, b.get() + begin, static_cast<std::size_t>(size / parts) * sizeof(float));
    }
    best.copy = std::max(best.copy, 2.0 * sizeof(float) * static_cast<double>(size) / (now() - start));
    start = now();
#pragma omp parallel for schedule(static)
    for (long i = 0; i < size; ++i) a[static_cast<std::size_t>(i)] = b[static_cast<std::size_t>(i)] + 0.5f * c[static_cast<std::size_t>(i)];
    best.triad = std::max(best.triad, 3.0 * sizeof(float) * static_cast<double>(size) / (now() - start));
  }
  return best;
}

}  // namespace

int main(int count, char** values) {
  omp_set_num_threads(count > 1 ? std::atoi(values[1]) : 1);
  const Bandwidth bandwidth = bytes_per_second();
  std::printf("{\"flops\": %.6g, \"bf16\": %.6g, \"amx\": %.6g, \"copy\": %.6g, \"bytes\": %.6g}\n", float_rate(),
              bfloat16_rate(), tile_rate(), bandwidth.copy, bandwidth.triad);
  return 0;
}
