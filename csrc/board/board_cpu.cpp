// board: sums and lists of what the ranks of one machine hold. See board.h for how they meet.
#include "board/board.h"

#include <torch/csrc/stable/library.h>

#include <chrono>
#include <thread>
#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <unistd.h>
#endif

#include "common/checks.h"
#include "common/isa.h"

namespace ganengine::board {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

// Whoever waits looks without a pause for so long, then lets others have the core in between, then sleeps in between:
// a rank has a core of its own, and is behind by less than a layer, unless the machine is busy or a file is written.
constexpr microseconds kAwake{50}, kYielding{5'000}, kAsleep{50}, kBetweenLooks{20'000};

void pause() {
#if GANENGINE_X86
  _mm_pause();
#endif
}

// Whether a rank has ended: each holds a lock on its own byte of the file, which the system takes back.
bool gone(int64_t file, int64_t rank) {
#if defined(__unix__) || defined(__APPLE__)
  struct flock asked{};
  asked.l_type = F_WRLCK;
  asked.l_whence = SEEK_SET;
  asked.l_start = rank;
  asked.l_len = 1;
  return file >= 0 && fcntl(static_cast<int>(file), F_GETLK, &asked) == 0 && asked.l_type == F_UNLCK;
#else
  (void)file, (void)rank;
  return false;
#endif
}

// Waits until a rank's counter has come so far.
void wait_for(const char* op, const Header& other, int64_t reached, int64_t rank, int64_t file, double patience_s) {
  const auto there = [&] { return other.posted.load(std::memory_order_acquire) >= reached; };
  if (there()) return;
  const Clock::time_point began = Clock::now();
  Clock::time_point looked = began;
  for (;;) {
    for (int i = 0; i < 64; ++i) {
      if (there()) return;
      pause();
    }
    const Clock::time_point now = Clock::now();
    if (now - began < kAwake) continue;
    if (now - looked > kBetweenLooks) {
      looked = now;
      // It may have posted its last word between the two questions.
      check(!gone(file, rank) || there(), op, "rank ", rank, " has ended");
      check(std::chrono::duration<double>(now - began).count() < patience_s, op, "rank ", rank, " did not answer");
    }
    if (now - began < kYielding) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kAsleep);
    }
  }
}

// The board in this memory, and a function that waits for all ranks.
template <typename Act>
void meet(const char* op, const Tensor& memory, int64_t rank, int64_t world, int64_t file, double patience_s,
          const Act& act) {
  check(memory.scalar_type() == ScalarType::Byte && memory.is_contiguous(), op, "expected memory of contiguous bytes");
  check(world >= 2 && rank >= 0 && rank < world, op, "expected two ranks or more and one of them, got rank ", rank,
        " of ", world);
  const Board board(static_cast<char*>(memory.mutable_data_ptr()), memory.numel(), rank, world);
  check(board.page_bytes() >= 64, op, "expected 256 bytes of memory or more for each rank");
  act(board, [&](int64_t reached, int64_t bytes) {
    const int64_t which = board.header(rank).messages & 1;
    for (int64_t r = 0; r < world; ++r) {
      if (r == rank) continue;
      wait_for(op, board.header(r), reached, r, file, patience_s);
      const int64_t brought = board.header(r).bytes[which];
      check(brought == bytes, op, "rank ", r, " brings ", brought, " bytes where rank ", rank, " brings ", bytes);
    }
  });
}

void sum(Tensor x, const Tensor& memory, int64_t rank, int64_t world, int64_t file, double patience_s) {
  check(x.is_contiguous(), kSum, "expected x to be contiguous");
  const ScalarType type = x.scalar_type();
  check(type == ScalarType::Float || type == ScalarType::Double, kSum, "expected x to be float32 or float64");
  meet(kSum, memory, rank, world, file, patience_s, [&](const Board& board, const auto& wait) {
    if (type == ScalarType::Float) {
      board.sum(static_cast<float*>(x.mutable_data_ptr()), x.numel(), wait);
    } else {
      board.sum(static_cast<double*>(x.mutable_data_ptr()), x.numel(), wait);
    }
  });
}

void gather(const Tensor& x, Tensor all, const Tensor& memory, int64_t rank, int64_t world, int64_t file,
            double patience_s) {
  check(x.is_contiguous() && all.is_contiguous(), kGather, "expected contiguous tensors");
  const int64_t bytes = x.numel() * static_cast<int64_t>(x.element_size());
  check(all.numel() * static_cast<int64_t>(all.element_size()) == world * bytes, kGather, "expected room for ", world,
        " times x");
  meet(kGather, memory, rank, world, file, patience_s, [&](const Board& board, const auto& wait) {
    board.gather(static_cast<const char*>(x.const_data_ptr()), static_cast<char*>(all.mutable_data_ptr()), bytes, wait);
  });
}

}  // namespace
}  // namespace ganengine::board

STABLE_TORCH_LIBRARY_FRAGMENT(ganengine, m) {
  m.def("board_sum(Tensor(a!) x, Tensor(b!) memory, int rank, int world, int file, float patience_s) -> ()");
  m.def(
      "board_gather(Tensor x, Tensor(a!) all, Tensor(b!) memory, int rank, int world, int file, float patience_s) -> "
      "()");
}
STABLE_TORCH_LIBRARY_IMPL(ganengine, CPU, m) {
  m.impl("board_sum", TORCH_BOX(&ganengine::board::sum));
  m.impl("board_gather", TORCH_BOX(&ganengine::board::gather));
}
