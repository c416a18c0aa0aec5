// Runs all tests, or those whose name contains the first argument.
#include "check.hpp"

int main(int count, char** arguments) {
  using namespace mxpipe::test;
  for (const Test& test : tests()) {
    if (count > 1 && std::string(test.name).find(arguments[1]) == std::string::npos) continue;
    const int before = failures();
    try {
      test.function();
    } catch (const std::exception& error) {
      ++failures();
      std::printf("exception: %s\n", error.what());
    }
    std::printf("%s %s\n", failures() == before ? "ok    " : "FAILED", test.name);
  }
  return failures() == 0 ? 0 : 1;
}
