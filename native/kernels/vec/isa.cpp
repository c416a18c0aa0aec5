#include "kernels/vec/isa.hpp"

#include <cstdlib>
#include <string_view>

#include "graph/error.hpp"

namespace mxpipe {

namespace portable {
extern const IsaTable table;
}
#ifdef MXPIPE_HAS_ISA_avx2
namespace avx2 {
extern const IsaTable table;
}
#endif
#ifdef MXPIPE_HAS_ISA_avx512
namespace avx512 {
extern const IsaTable table;
}
#endif

std::vector<const IsaTable*> usable_isas() {
  std::vector<const IsaTable*> tables{&portable::table};
#ifdef MXPIPE_HAS_ISA_avx2
  if (__builtin_cpu_supports("x86-64-v3")) tables.push_back(&avx2::table);
#endif
#ifdef MXPIPE_HAS_ISA_avx512
  if (__builtin_cpu_supports("x86-64-v4")) tables.push_back(&avx512::table);
#endif
  return tables;
}

namespace {

const IsaTable& choose() {
  const std::vector<const IsaTable*> tables = usable_isas();
  const char* asked = std::getenv("MXPIPE_ISA");
  if (asked == nullptr || *asked == '\0') return *tables.back();
  std::string names;
  for (const IsaTable* table : tables) {
    if (std::string_view(asked) == table->name) return *table;
    names += (names.empty() ? "" : ", ") + std::string(table->name);
  }
  fail(ErrorKind::op, "MXPIPE_ISA", "must name an instruction set of this processor (", names, "); got ",
       asked, ".");
}

}  // namespace

const IsaTable& isa() {
  static const IsaTable& chosen = choose();
  return chosen;
}

}  // namespace mxpipe
