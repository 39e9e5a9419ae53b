// The threads of a block as fibers of one system thread: a switch costs nanoseconds, so that big grids are tested fast.
// Which ready fiber runs next is drawn at random.
#pragma once

#include <csetjmp>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#include <ucontext.h>

namespace emulator {

// Where threads meet.
struct Gate {
  int arrived = 0;
  std::vector<int> waiting;
};

class Crew {
 public:
  explicit Crew(int threads, uint64_t seed) : fibers_(threads), state_(seed * 2 + 1) {}

  // Runs body(0) ... body(threads - 1). Throws where some wait for what never comes.
  void run(const std::function<void(int)>& body) {
    body_ = &body;
    const int threads = static_cast<int>(fibers_.size());
    for (int thread = 0; thread < threads; ++thread) start(thread);
    int finished = 0;
    while (!ready_.empty()) {
      const size_t drawn = random() % ready_.size();
      running_ = ready_[drawn];
      ready_[drawn] = ready_.back();
      ready_.pop_back();
      resume(fibers_[running_]);
      finished += fibers_[running_].done;
    }
    if (error_) std::rethrow_exception(error_);
    if (finished < threads) throw std::runtime_error("a barrier or shuffle that not all threads reach");
  }

  int current() const { return running_; }

  // Waits until `expected` threads have come to the gate.
  void meet(Gate& gate, int expected) {
    gate.waiting.push_back(running_);
    if (++gate.arrived == expected) {
      ready_.insert(ready_.end(), gate.waiting.begin(), gate.waiting.end());
      gate.arrived = 0;
      gate.waiting.clear();
    }
    suspend(fibers_[running_]);
  }

 private:
  static constexpr size_t kStack = 64 * 1024;

  struct Fiber {
    ucontext_t start;
    jmp_buf here;
    std::unique_ptr<char[]> stack;
    bool started = false, done = false;
  };

  void start(int thread) {
    Fiber& fiber = fibers_[thread];
    fiber.stack.reset(new char[kStack]);
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.get();
    fiber.start.uc_stack.ss_size = kStack;
    fiber.start.uc_link = nullptr;
    const auto self = reinterpret_cast<uintptr_t>(this);  // makecontext passes ints
    makecontext(&fiber.start, reinterpret_cast<void (*)()>(&Crew::enter), 2, static_cast<unsigned>(self >> 32),
                static_cast<unsigned>(self));
    ready_.push_back(thread);
  }

  static void enter(unsigned high, unsigned low) {
    Crew* const crew = reinterpret_cast<Crew*>(static_cast<uintptr_t>(high) << 32 | low);
    try {
      (*crew->body_)(crew->running_);
    } catch (...) {
      crew->error_ = std::current_exception();
    }
    crew->fibers_[crew->running_].done = true;
    _longjmp(crew->home_, 1);
  }

  // The first switch goes by ucontext; later ones by jumps, which spare its system call.
  void resume(Fiber& fiber) {
    if (_setjmp(home_) != 0) return;
    if (fiber.started) _longjmp(fiber.here, 1);
    fiber.started = true;
    setcontext(&fiber.start);
  }

  void suspend(Fiber& fiber) {
    if (_setjmp(fiber.here) == 0) _longjmp(home_, 1);
  }

  uint64_t random() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }

  std::vector<Fiber> fibers_;
  std::vector<int> ready_;
  jmp_buf home_;
  std::exception_ptr error_;
  uint64_t state_;
  int running_ = 0;
  const std::function<void(int)>* body_ = nullptr;
};

}  // namespace emulator
