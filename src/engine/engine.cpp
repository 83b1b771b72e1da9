// The C interface: whole pictures in pieces on several threads, and streams of rows.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

#include "instructions.h"
#include "onebranch_engine.h"
#include "strip.h"

struct ob_network {
    ob::Network network;
};

struct ob_stream {
    const ob::Network &network;
    ob_format format;
    int threads;
    std::vector<ob::Strip> strips;
    int64_t taken = 0, given = 0, steps_done = 0;
};

namespace ob {
namespace {

constexpr int64_t LARGEST_SIDE = int64_t(1) << 24, LARGEST_HEIGHT = int64_t(1) << 40;
constexpr int MOST_THREADS = 1024;
constexpr size_t CACHE = 4 << 20;   // bytes that the rows of a piece take before narrower pieces are faster: measured
constexpr int64_t NARROWEST = 512;  // columns of a piece that was cut for the cache's sake

struct Cancelled {};

void say(char *message, size_t room, const char *text) {
    if (message && room) std::snprintf(message, room, "%s", text);
}

// Has this thread's record of exceptions made while there is memory for it. It is made at its first use, and where that
// is the exception that says there is no memory, the C library ends the process.
void prepare_for_exceptions() {
    volatile int none = std::uncaught_exceptions();  // volatile: the call may be left out otherwise
    (void)none;
}

// Runs a function, whose exceptions become a line of text and `failed`.
template <class R, class Function>
R guarded(char *message, size_t room, R failed, Function function) {
    prepare_for_exceptions();
    try {
        return function();
    } catch (const Cancelled &) {
        say(message, room, "cancelled");
    } catch (const std::bad_alloc &) {
        say(message, room, "there is not enough memory for a picture of this size");
    } catch (const std::exception &error) {
        say(message, room, error.what());
    } catch (...) {
        say(message, room, "the engine failed");
    }
    return failed;
}

int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

void check_format(const Network &network, const ob_format &format) {
    if (format.height < 1 || format.width < 1) throw Error("a picture has at least one row and one column");
    if (format.width > LARGEST_SIDE || format.height > LARGEST_HEIGHT)
        throw Error("the picture is too large: at most 16777216 columns");
    for (int32_t type : {format.source, format.target})
        if (type < OB_UINT8 || type > OB_FLOAT32) throw Error("unknown type of samples");
    int channels = network.description.channels;
    bool fits = format.colour == OB_OWN || (format.colour == OB_RGB_OF_GREY && channels == 3) ||
                ((format.colour == OB_Y_OF_RGB || format.colour == OB_Y_OF_GREY) && channels == 1);
    if (!fits) throw Error("the picture's colours do not fit the network's");
}

int picture_channels(const Network &network, const ob_format &format) {
    if (format.colour == OB_OWN) return network.description.channels;
    return format.colour == OB_Y_OF_RGB ? 3 : 1;
}

// Samples of a picture whose planes, where it is planar, are `rows` rows high.
Samples samples(void *base, int type, int64_t width, int64_t rows, int channels, bool planar) {
    Samples found;
    found.base = base;
    found.type = type;
    found.row = planar ? width : width * channels;
    found.pixel = planar ? 1 : channels;
    found.channel = planar ? width * rows : 1;
    return found;
}

int64_t output_side(const Network &network, int64_t side) {
    const Description &d = network.description;
    return d.reduces() > 1 ? (side + d.scale - 1) / d.scale : side * d.enlarges();
}

// [0, size) in pieces of at most `largest`, all but the last multiples of `unit`.
std::vector<Range> cut(int64_t size, int64_t largest, int64_t unit) {
    int64_t pieces = std::max<int64_t>(1, (size + largest - 1) / largest);
    int64_t each = std::max(unit, round_up((size + pieces - 1) / pieces, unit));
    if (each > largest && largest >= unit) each = largest / unit * unit;
    std::vector<Range> found;
    for (int64_t at = 0; at < size; at += each) found.push_back({at, std::min(size, at + each)});
    return found;
}

int64_t unit_of(const Network &network) { return 4 * network.description.reduces(); }

// The widest strip whose rows stay in the cache, but never so narrow that overlaps weigh.
int64_t strip_for_cache(const Network &network, int64_t width) {
    size_t each = 0;
    for (size_t k = 0; k + 1 < network.layers.size(); k++) {
        const Packed &packed = network.layers[k];
        size_t bytes = packed.out_cell == Cell::Float32 ? 4 : packed.out_cell == Cell::BFloat16 ? 2 : 1;
        bool transformed = network.layers[k + 1].winograd;
        each += size_t(packed.out) * bytes * (transformed ? 7 : size_t(network.layers[k + 1].layer->rows));
    }
    int64_t fitting = int64_t(CACHE / std::max<size_t>(each, 1));
    if (fitting >= width) return width;
    return std::max(NARROWEST, fitting / 64 * 64);
}

struct Task {
    Range columns, rows;
};

std::vector<Task> tasks_for(const Network &network, const ob_format &format, int threads, int64_t strip, int64_t band) {
    int64_t unit = unit_of(network), reduces = network.description.reduces();
    int64_t width = round_up(format.width, reduces), height = round_up(format.height, reduces);
    int64_t columns = strip > 0 ? strip : strip_for_cache(network, width);
    std::vector<Range> strips = cut(width, std::max(columns, unit), unit);
    int64_t rows = band;
    if (rows <= 0) {
        // Two bands for each thread, so that one that is held up does not hold up the rest; fewer where the rows
        // that two bands both compute would weigh.
        int64_t bands = threads > 1 ? 2 * threads : 1;
        if (height / bands < 16 * (network.lag + 1)) bands = threads;
        rows = std::max<int64_t>((height + bands - 1) / bands, 4 * (network.lag + 1));
    }
    std::vector<Task> tasks;
    for (const Range &b : cut(height, std::max(rows, reduces), reduces))
        for (const Range &s : strips) tasks.push_back({s, b});
    return tasks;
}

constexpr std::chrono::milliseconds ASKING{50};

// Whether a call is to end early: the calling thread asks now and then, the others see its answer.
class Watch {
  public:
    explicit Watch(ob_ask ask) : ask_(ask), next_(Clock::now() + ASKING) {}

    void look(bool caller) {
        if (caller && ask_ && Clock::now() >= next_) {
            if (ask_()) ended_ = true;
            next_ = Clock::now() + ASKING;
        }
        if (ended_) throw Cancelled();
    }

  private:
    using Clock = std::chrono::steady_clock;
    const ob_ask ask_;
    Clock::time_point next_;
    std::atomic<bool> ended_{false};
};

// Every task once, on so many threads, this one among them; the first exception is thrown again here.
// function: of the task's number, and whether it runs on this thread.
template <class Function>
void parallel(size_t count, int threads, Watch &watch, Function function) {
    std::atomic<size_t> next{0};
    std::exception_ptr failure;
    std::mutex lock;
    std::condition_variable change;
    size_t running = 0;
    auto work = [&](bool caller) {
        try {
            for (size_t k; (k = next++) < count;) function(k, caller);
        } catch (...) {
            std::lock_guard<std::mutex> guard(lock);
            if (!failure) failure = std::current_exception();
            next = count;
        }
    };
    auto beside = [&] {
        prepare_for_exceptions();
        work(false);
        std::lock_guard<std::mutex> guard(lock);
        running--;
        change.notify_one();
    };
    std::vector<std::thread> others;
    size_t wanted = std::min<size_t>(size_t(threads), count);
    for (size_t k = 1; k < wanted; k++) {
        std::lock_guard<std::mutex> guard(lock);
        try {
            others.emplace_back(beside);
            running++;
        } catch (const std::system_error &) {
            break;  // fewer threads do the same work
        }
    }
    work(true);
    std::unique_lock<std::mutex> guard(lock);
    while (running) {
        change.wait_for(guard, ASKING);
        guard.unlock();
        try {
            watch.look(true);
        } catch (const Cancelled &) {
            next = count;
        }
        guard.lock();
    }
    guard.unlock();
    for (std::thread &other : others) other.join();
    if (failure) std::rethrow_exception(failure);
}

void run(const Network &network, const ob_format &format, const void *input, void *output, int threads, int64_t strip,
         int64_t band, ob_ask ask) {
    check_format(network, format);
    if (threads < 1 || threads > MOST_THREADS) throw Error("the number of threads must be from 1 to 1024");
    int channels = picture_channels(network, format);
    Samples source = samples(const_cast<void *>(input), format.source, format.width, format.height, channels, format.planar);
    Samples target = samples(output, format.target, output_side(network, format.width),
                             output_side(network, format.height), channels, format.planar);
    std::vector<Task> tasks = tasks_for(network, format, threads, strip, band);
    Watch watch(ask);
    parallel(tasks.size(), threads, watch, [&](size_t k, bool caller) {
        Strip piece(network, format, tasks[k].columns, tasks[k].rows);
        for (int64_t steps = piece.steps(); steps > 0; steps--) {
            watch.look(caller);
            piece.step(source, 0, target, 0);
        }
    });
}

// Rows of the input that a stream's strips have taken steps for once they have `rows` rows.
int64_t steps_ready(const ob_stream &stream, int64_t rows) {
    return rows >= stream.format.height ? stream.strips[0].steps() : rows;
}

int64_t rows_ready(const ob_stream &stream, int64_t rows) {
    const Description &d = stream.network.description;
    if (rows >= stream.format.height) return output_side(stream.network, stream.format.height);
    int64_t lag = stream.strips[0].steps() - round_up(stream.format.height, d.reduces());
    int64_t made = std::max<int64_t>(0, rows - lag);
    return d.reduces() > 1 ? (made + d.scale - 1) / d.scale : made * d.enlarges();
}

void push(ob_stream &stream, const void *input, int64_t count, int64_t input_plane, void *output, int64_t output_plane,
          ob_ask ask) {
    if (count < 0 || count > stream.format.height - stream.taken) throw Error("the stream is given more rows than its picture has");
    int channels = picture_channels(stream.network, stream.format);
    bool planar = stream.format.planar != 0;
    Samples source = samples(const_cast<void *>(input), stream.format.source, stream.format.width, input_plane, channels, planar);
    Samples target = samples(output, stream.format.target, output_side(stream.network, stream.format.width), output_plane, channels, planar);
    int64_t first = stream.taken, until = steps_ready(stream, stream.taken + count), begin = stream.steps_done;
    Watch watch(ask);
    parallel(stream.strips.size(), stream.threads, watch, [&](size_t k, bool caller) {
        for (int64_t step = begin; step < until; step++) {
            watch.look(caller);
            stream.strips[k].step(source, first, target, stream.given);
        }
    });
    stream.steps_done = until;
    stream.taken += count;
    stream.given = rows_ready(stream, stream.taken);
}

}  // namespace
}  // namespace ob

extern "C" {

int32_t ob_version(void) { return OB_VERSION; }

const char *ob_instruction_sets(void) {
    static const auto &names = *[] {  // kept: threads may outlive main()
        std::string found;
        for (const ob::KernelSet &set : ob::kernel_sets()) found += (found.empty() ? "" : " ") + std::string(set.name);
        return new std::string(found);
    }();
    return names.c_str();
}

ob_network *ob_open(const uint8_t *description, size_t size, const char *instructions, char *message, size_t room) {
    return ob::guarded<ob_network *>(message, room, nullptr, [&] {
        const ob::KernelSet *set = ob::kernel_set_named(instructions);
        if (!set) throw ob::Error(std::string("this machine does not run the instruction set ") + instructions);
        return new ob_network{ob::Network(ob::parse(description, size), set)};
    });
}

void ob_close(ob_network *network) { delete network; }

int64_t ob_output_height(const ob_network *network, int64_t height) { return ob::output_side(network->network, height); }
int64_t ob_output_width(const ob_network *network, int64_t width) { return ob::output_side(network->network, width); }

int32_t ob_run(const ob_network *network, const ob_format *format, const void *input, void *output, int32_t threads,
               int64_t strip, int64_t band, ob_ask ask, char *message, size_t room) {
    return ob::guarded<int32_t>(message, room, 0, [&] {
        ob::run(network->network, *format, input, output, threads, strip, band, ask);
        return 1;
    });
}

ob_stream *ob_stream_open(const ob_network *network, const ob_format *format, int32_t threads, char *message, size_t room) {
    return ob::guarded<ob_stream *>(message, room, nullptr, [&] {
        ob::check_format(network->network, *format);
        if (threads < 1 || threads > ob::MOST_THREADS) throw ob::Error("the number of threads must be from 1 to 1024");
        auto stream = std::unique_ptr<ob_stream>(new ob_stream{network->network, *format, threads, {}});
        int64_t reduces = network->network.description.reduces(), unit = ob::unit_of(network->network);
        int64_t width = ob::round_up(format->width, reduces), height = ob::round_up(format->height, reduces);
        int64_t columns = ob::strip_for_cache(network->network, width);
        if (width / threads >= ob::NARROWEST / 2) columns = std::min(columns, (width + threads - 1) / threads);
        for (const ob::Range &range : ob::cut(width, std::max(ob::round_up(columns, unit), unit), unit))
            stream->strips.emplace_back(network->network, *format, range, ob::Range{0, height});
        return stream.release();
    });
}

int64_t ob_stream_ready(const ob_stream *stream, int64_t rows) { return ob::rows_ready(*stream, rows); }

int32_t ob_stream_push(ob_stream *stream, const void *input, int64_t count, int64_t input_plane, void *output,
                       int64_t output_plane, ob_ask ask, char *message, size_t room) {
    return ob::guarded<int32_t>(message, room, 0, [&] {
        ob::push(*stream, input, count, input_plane, output, output_plane, ask);
        return 1;
    });
}

void ob_stream_close(ob_stream *stream) { delete stream; }

double ob_peak(const ob_network *network, int32_t precision, double seconds) {
    return network->network.kernels->peak(precision, seconds);
}

}  // extern "C"
