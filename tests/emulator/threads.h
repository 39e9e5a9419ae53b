// The threads of a block as threads of the system: for the sanitizers, which know those and no fibers.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace emulator {

// Where threads meet.
struct Gate {
  std::mutex mutex;
  std::condition_variable open;
  int arrived = 0;
  uint64_t opened = 0;
};

class Crew {
 public:
  Crew(int threads, uint64_t) : threads_(threads) {}

  // Runs body(0) ... body(threads - 1).
  void run(const std::function<void(int)>& body) {
    std::vector<std::thread> started;
    for (int thread = 0; thread < threads_; ++thread)
      started.emplace_back([&body, thread] { self() = thread, body(thread); });
    for (std::thread& thread : started) thread.join();
  }

  int current() const { return self(); }

  // Waits until `expected` threads have come to the gate.
  void meet(Gate& gate, int expected) {
    std::unique_lock<std::mutex> lock(gate.mutex);
    const uint64_t before = gate.opened;
    if (++gate.arrived == expected) {
      gate.arrived = 0;
      ++gate.opened;
      gate.open.notify_all();
    } else {
      gate.open.wait(lock, [&] { return gate.opened != before; });
    }
  }

 private:
  static int& self() {
    static thread_local int thread = 0;
    return thread;
  }

  int threads_;
};

}  // namespace emulator
