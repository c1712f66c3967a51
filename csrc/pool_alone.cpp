// The pool where there are no threads: a page's WebAssembly.
#include "errors.h"
#include "pool.h"

namespace unmul {

Pool::Pool(int threads) : threads_(threads) {
    require(threads == 1, ErrorCode::kBadArgument, "there is one thread here: ask for 1");
}

Pool::~Pool() = default;

int Pool::most_threads() { return 1; }

void Pool::run(const std::function<void(int)>& task) { task(0); }

void Pool::barrier() {}

}  // namespace unmul
