// board: what the ranks of one machine tell each other, through memory that all of them have mapped.
//
// Each rank has a place: a header and two pages. A message is written to the rank's own page and posted by a counter;
// who waits for it watches the counters of the others. Messages are written to one page and the other in turn, and
// nobody posts a message before having read the one before, so a page is free again when its turn comes: one wait per
// message, no lock. A message that is longer than a page is sent in parts.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>

namespace ganengine::board {

inline constexpr const char* kSum = "board_sum";
inline constexpr const char* kGather = "board_gather";

// Between 3 ranks or more, a message of so many bytes is summed by all of them, each a part: every rank reads it twice
// instead of once per rank, for one more wait.
inline constexpr int64_t kShared = 16 << 10;

struct alignas(64) Header {
  std::atomic<int64_t> posted;  // times that this rank has said that the others may read
  int64_t messages;             // that this rank has written
  int64_t bytes[2];             // of what stands on its pages
};
static_assert(std::atomic<int64_t>::is_always_lock_free, "processes share the counters");

class Board {
 public:
  Board(char* memory, int64_t bytes, int64_t rank, int64_t world)
      : memory_(memory), place_(bytes / world / 128 * 128), rank_(rank), world_(world) {}

  int64_t page_bytes() const { return (place_ - static_cast<int64_t>(sizeof(Header))) / 128 * 64; }

  Header& header(int64_t rank) const { return *reinterpret_cast<Header*>(memory_ + rank * place_); }

  // A rank's page for the message that this rank has written last.
  template <typename T>
  T* page(int64_t rank) const {
    const int64_t which = header(rank_).messages & 1;
    return reinterpret_cast<T*>(memory_ + rank * place_ + sizeof(Header) + which * page_bytes());
  }

  // Adds up what each rank brings, in x [n]; in the order of ranks, so that all get the same bits.
  template <typename T, typename Wait>
  void sum(T* x, int64_t n, const Wait& wait) const {
    const int64_t most = page_bytes() / static_cast<int64_t>(sizeof(T));
    for (; n > 0; x += most, n -= most) {
      const int64_t here = std::min(n, most), bytes = here * static_cast<int64_t>(sizeof(T));
      write(x, bytes);
      wait(post(), bytes);
      if (world_ == 2 || bytes < kShared) {
        add_up(x, 0, here);
        continue;
      }
      const auto part = [&](int64_t r) { return here * r / world_; };
      add_up(x, part(rank_), part(rank_ + 1));
      copy(page<T>(rank_), x, part(rank_), part(rank_ + 1));
      wait(post(), bytes);
      for (int64_t r = 0; r < world_; ++r) copy(x, page<T>(r), part(r), part(r + 1));
    }
  }

  // Puts what each rank brings, x [bytes], into all [world, bytes].
  template <typename Wait>
  void gather(const char* x, char* all, int64_t bytes, const Wait& wait) const {
    for (int64_t done = 0; done < bytes; done += page_bytes()) {
      const int64_t here = std::min(bytes - done, page_bytes());
      write(x + done, here);
      wait(post(), here);
      for (int64_t r = 0; r < world_; ++r) std::memcpy(all + r * bytes + done, page<char>(r), here);
    }
  }

 private:
  void write(const void* x, int64_t bytes) const {
    Header& own = header(rank_);
    ++own.messages;
    own.bytes[own.messages & 1] = bytes;
    std::memcpy(page<char>(rank_), x, bytes);
  }

  // Lets the others read; returns what their counters reach when they have come as far.
  int64_t post() const {
    Header& own = header(rank_);
    const int64_t reached = own.posted.load(std::memory_order_relaxed) + 1;
    own.posted.store(reached, std::memory_order_release);
    return reached;
  }

  template <typename T>
  void add_up(T* to, int64_t first, int64_t last) const {
    const T *a = page<T>(0), *b = page<T>(1);
    for (int64_t i = first; i < last; ++i) to[i] = a[i] + b[i];
    for (int64_t r = 2; r < world_; ++r) {
      const T* more = page<T>(r);
      for (int64_t i = first; i < last; ++i) to[i] += more[i];
    }
  }

  template <typename T>
  static void copy(T* to, const T* from, int64_t first, int64_t last) {
    std::memcpy(to + first, from + first, (last - first) * sizeof(T));
  }

  char* memory_;
  int64_t place_, rank_, world_;
};

}  // namespace ganengine::board
