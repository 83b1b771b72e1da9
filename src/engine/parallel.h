// Tasks on several threads, with cancellation, and the only place where exceptions are caught.
//
// The engine's own functions throw nothing; they return null or an error, one line in static storage. The
// C++ library may throw std::bad_alloc and std::system_error. A build without exceptions, as for WebAssembly,
// has one thread and no clock: where the C++ library would throw, it ends the program.
#pragma once

#include "onebranch_engine.h"

#if defined(__cpp_exceptions)
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>
#endif

namespace ob {

inline constexpr char CANCELLED[] = "cancelled";
inline constexpr char NOT_ENOUGH_MEMORY[] = "there is not enough memory for a picture of this size";

#if defined(__cpp_exceptions)

// Makes the C++ runtime allocate this thread's record of exceptions now. Otherwise it is allocated at the
// first exception; if that is std::bad_alloc, this allocation fails too, and the process is terminated.
inline void prepare_for_exceptions() {
    volatile int none = std::uncaught_exceptions();  // volatile: the call may be left out otherwise
    (void)none;
}

// The error that a function returns, or the one that stands for what the C++ library throws in it.
template <class Function>
const char *attempt(Function function) {
    prepare_for_exceptions();
    try {
        return function();
    } catch (const std::bad_alloc &) {
        return NOT_ENOUGH_MEMORY;
    } catch (...) {
        return "the engine failed";
    }
}

constexpr std::chrono::milliseconds CANCELLATION_INTERVAL{50};

// Whether a call has been cancelled: the calling thread asks the callback, the other threads see its answer.
class Cancellation {
  public:
    explicit Cancellation(ob_cancellation callback)
        : callback_(callback), next_(Clock::now() + CANCELLATION_INTERVAL) {}

    bool requested(bool caller) {
        if (caller && callback_ && Clock::now() >= next_) {
            if (callback_()) cancelled_ = true;
            next_ = Clock::now() + CANCELLATION_INTERVAL;
        }
        return cancelled_;
    }

  private:
    using Clock = std::chrono::steady_clock;
    const ob_cancellation callback_;
    Clock::time_point next_;
    std::atomic<bool> cancelled_{false};
};

// Calls `function` for every task on `threads` threads, this one included; returns the first error, and
// starts no other task after it. function: takes the task's index and whether it runs on the calling thread.
template <class Function>
const char *parallel(size_t count, int threads, Cancellation &cancellation, Function function) {
    std::atomic<size_t> next{0};
    const char *failure = nullptr;
    std::mutex lock;
    std::condition_variable change;
    size_t running = 0;
    auto work = [&](bool caller) {
        const char *error = attempt([&]() -> const char * {
            for (size_t k; (k = next++) < count;)
                if (const char *task_error = function(k, caller)) return task_error;
            return nullptr;
        });
        if (!error) return;
        std::lock_guard<std::mutex> guard(lock);
        if (!failure) failure = error;
        next = count;
    };
    auto work_in_thread = [&] {
        work(false);
        std::lock_guard<std::mutex> guard(lock);
        running--;
        change.notify_one();
    };
    std::vector<std::thread> others;
    size_t wanted = size_t(threads) < count ? size_t(threads) : count;
    for (size_t k = 1; k < wanted; k++) {
        std::lock_guard<std::mutex> guard(lock);
        try {
            others.emplace_back(work_in_thread);
            running++;
        } catch (const std::system_error &) {
            break;  // fewer threads do the same work
        }
    }
    work(true);
    std::unique_lock<std::mutex> guard(lock);
    while (running) {
        change.wait_for(guard, CANCELLATION_INTERVAL);
        guard.unlock();
        if (cancellation.requested(true)) next = count;
        guard.lock();
    }
    guard.unlock();
    for (std::thread &other : others) other.join();
    return failure;
}

#else

template <class Function>
const char *attempt(Function function) {
    return function();
}

// Asks the callback at every step: there is no clock.
class Cancellation {
  public:
    explicit Cancellation(ob_cancellation callback) : callback_(callback) {}
    bool requested(bool) { return callback_ && callback_(); }

  private:
    const ob_cancellation callback_;
};

template <class Function>
const char *parallel(size_t count, int, Cancellation &, Function function) {
    for (size_t k = 0; k < count; k++)
        if (const char *error = function(k, true)) return error;
    return nullptr;
}

#endif

}  // namespace ob
