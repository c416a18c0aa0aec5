// What the machine can do: fp32 fused multiply-adds a second, and bytes a second of a streaming triad, on the
// given number of threads. Prints one JSON line. Built by benchmarks/limits.py.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <omp.h>

namespace {

constexpr int kLanes = 16;  // floats in a vector of 64 bytes; the compiler splits it where vectors are narrower
typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// 16 independent chains hide the latency of a fused multiply-add.
double flops_per_second() {
  constexpr int kChains = 16;
  constexpr long kRounds = 400000;  // under 1 ms: some repeat goes undisturbed on a busy machine
  double best = 0;
  for (int repeat = 0; repeat < 200; ++repeat) {
    float sink = 0;
    const double start = now();
#pragma omp parallel reduction(+ : sink)
    {
      Vector sums[kChains];
      for (int i = 0; i < kChains; ++i) sums[i] = Vector{} + static_cast<float>(i);
      Vector scale = Vector{} + 0.999f, shift = Vector{} + 0.001f;
      __asm__ volatile("" : "+m"(scale), "+m"(shift));
      for (long round = 0; round < kRounds; ++round) {
#pragma GCC unroll 16
        for (int i = 0; i < kChains; ++i) sums[i] = sums[i] * scale + shift;
      }
      for (const Vector& sum : sums) sink += sum[0];
    }
    const double rate = 2.0 * kLanes * kChains * kRounds * omp_get_max_threads() / (now() - start);
    if (rate > best && sink != -1) best = rate;
  }
  return best;
}

double bytes_per_second() {
  const long size = 64L << 20;
  std::vector<float> a(static_cast<std::size_t>(size)), b(a), c(a);
  double best = 0;
  for (int repeat = 0; repeat < 20; ++repeat) {
    const double start = now();
#pragma omp parallel for schedule(static)
    for (long i = 0; i < size; ++i) a[static_cast<std::size_t>(i)] = b[static_cast<std::size_t>(i)] + 0.5f * c[static_cast<std::size_t>(i)];
    const double rate = 3.0 * sizeof(float) * static_cast<double>(size) / (now() - start);
    if (rate > best) best = rate;
  }
  return best;
}

}  // namespace

int main(int count, char** values) {
  omp_set_num_threads(count > 1 ? std::atoi(values[1]) : 1);
  std::printf("{\"flops\": %.6g, \"bytes\": %.6g}\n", flops_per_second(), bytes_per_second());
  return 0;
}
