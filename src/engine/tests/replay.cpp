// Runs recorded cases with every set of instructions that this machine has, or with those named, and
// compares. No Python is needed, so that the engine can be tested under an emulator.
//
//   replay CASES [SET ...]
//
// The file of cases, little-endian: 8 bytes "OBCASES\1", int32 count, then each case:
//   int32 size of the name, the name; int64 size of the description, the description
//   int64 height, width; int32 source, target, colour, planar (struct ob_format); float64 tolerance
//   int64 size of the input, the input; int64 size of the expected output, the expected output
// Tolerance 0 asks for the same bytes; above 0 it is the largest difference of float32 values.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "onebranch_engine.h"

namespace {

using Bytes = std::vector<uint8_t>;

struct Case {
    std::string name;
    Bytes description, input, expected;
    ob_format format{};
    double tolerance = 0;
};

class Reader {
  public:
    explicit Reader(const Bytes &bytes) : bytes_(bytes) {}

    template <class T>
    T number() {
        T value;
        std::memcpy(&value, take(sizeof value), sizeof value);
        return value;
    }

    template <class Size>
    Bytes bytes() {
        size_t count = size_t(number<Size>());
        const uint8_t *from = take(count);
        return Bytes(from, from + count);
    }

    const uint8_t *take(size_t count) {
        if (count > bytes_.size() - at_) throw std::runtime_error("the file of cases is truncated");
        at_ += count;
        return bytes_.data() + at_ - count;
    }

  private:
    const Bytes &bytes_;
    size_t at_ = 0;
};

Bytes content(const char *path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(std::string("cannot read ") + path);
    return Bytes(std::istreambuf_iterator<char>(file), {});
}

Case read_case(Reader &reader) {
    Case result;
    Bytes name = reader.bytes<int32_t>();
    result.name.assign(name.begin(), name.end());
    result.description = reader.bytes<int64_t>();
    result.format.height = reader.number<int64_t>();
    result.format.width = reader.number<int64_t>();
    result.format.source = reader.number<int32_t>();
    result.format.target = reader.number<int32_t>();
    result.format.colour = reader.number<int32_t>();
    result.format.planar = reader.number<int32_t>();
    result.tolerance = reader.number<double>();
    result.input = reader.bytes<int64_t>();
    result.expected = reader.bytes<int64_t>();
    return result;
}

std::vector<Case> read_cases(const char *path) {
    Bytes bytes = content(path);
    Reader reader(bytes);
    if (std::memcmp(reader.take(8), "OBCASES\1", 8) != 0)
        throw std::runtime_error("this is not a file of cases");
    std::vector<Case> cases(size_t(reader.number<int32_t>()));
    for (Case &entry : cases) entry = read_case(reader);
    return cases;
}

// ---- running a case: a whole picture, and a stream of rows ----

struct Closer {
    void operator()(ob_network *network) const { ob_close(network); }
    void operator()(ob_stream *stream) const { ob_stream_close(stream); }
};

char message[512];

std::unique_ptr<ob_network, Closer> open(const Case &given, const std::string &set) {
    ob_network *network =
        ob_open(given.description.data(), given.description.size(), set.c_str(), message, sizeof message);
    if (!network) throw std::runtime_error(message);
    return std::unique_ptr<ob_network, Closer>(network);
}

Bytes run_whole(const ob_network *network, const Case &given, int threads, int64_t strip, int64_t band) {
    Bytes output(given.expected.size());
    if (!ob_run(network, &given.format, given.input.data(), output.data(), threads, strip, band, nullptr,
                message, sizeof message))
        throw std::runtime_error(message);
    return output;
}

// In pushes of 1, 2, 3, 1, 2 ... rows.
Bytes run_stream(const ob_network *network, const Case &given) {
    const ob_format &format = given.format;
    std::unique_ptr<ob_stream, Closer> stream(ob_stream_open(network, &format, 2, message, sizeof message));
    if (!stream) throw std::runtime_error(message);
    Bytes output(given.expected.size());
    int64_t output_height = ob_output_height(network, format.height), planes = 1;
    size_t input_row_bytes = given.input.size() / size_t(format.height),
           output_row_bytes = output.size() / size_t(output_height);
    if (format.planar) {
        const size_t sizes[] = {1, 2, 4};
        planes = int64_t(input_row_bytes / (size_t(format.width) * sizes[format.source]));
    }
    int64_t rows_written = 0;
    for (int64_t rows_read = 0, step = 1; rows_read < format.height; step = step % 3 + 1) {
        int64_t count = std::min(step, format.height - rows_read);
        const uint8_t *from = given.input.data() + size_t(rows_read) * (input_row_bytes / size_t(planes));
        uint8_t *to = output.data() + size_t(rows_written) * (output_row_bytes / size_t(planes));
        if (!ob_stream_push(stream.get(), from, count, format.height, to, output_height, nullptr, message,
                            sizeof message))
            throw std::runtime_error(message);
        rows_read += count;
        rows_written = ob_stream_ready(stream.get(), rows_read);
    }
    if (rows_written != output_height) throw std::runtime_error("the stream gave too few rows");
    return output;
}

// ---- comparing ----

double largest_difference(const Bytes &a, const Bytes &b) {
    double largest = 0;
    for (size_t at = 0; at + 4 <= a.size(); at += 4) {
        float x, y;
        std::memcpy(&x, &a[at], 4);
        std::memcpy(&y, &b[at], 4);
        double difference = std::fabs(double(x) - double(y));
        largest = difference <= largest ? largest : std::isnan(difference) ? INFINITY : difference;
    }
    return largest;
}

void compare(const Case &given, const Bytes &output) {
    if (given.tolerance == 0 && output != given.expected) {
        size_t at = size_t(std::mismatch(output.begin(), output.end(), given.expected.begin()).first -
                           output.begin());
        std::ostringstream text;
        text << "byte " << at << " of " << output.size() << " is " << int(output[at]) << ", not "
             << int(given.expected[at]);
        throw std::runtime_error(text.str());
    }
    double difference = given.tolerance > 0 ? largest_difference(output, given.expected) : 0;
    if (difference > given.tolerance) {
        std::ostringstream text;
        text << "it differs by " << difference << ", more than " << given.tolerance;
        throw std::runtime_error(text.str());
    }
}

void same(const Bytes &output, const Bytes &first, const char *how) {
    if (output != first) throw std::runtime_error(std::string("the result depends on ") + how);
}

void check(const Case &given, const std::string &set) {
    auto network = open(given, set);
    Bytes first = run_whole(network.get(), given, 1, 0, 0);
    compare(given, first);
    same(run_whole(network.get(), given, 3, 0, 0), first, "the number of threads");
    same(run_whole(network.get(), given, 2, 8, 3), first, "the size of the pieces");
    same(run_stream(network.get(), given), first, "whether rows are streamed");
}

int replay(const std::vector<Case> &cases, const std::string &set) {
    int failed = 0;
    for (const Case &entry : cases) {
        try {
            check(entry, set);
        } catch (const std::exception &error) {
            failed++;
            std::printf("%s: %s: %s\n", set.c_str(), entry.name.c_str(), error.what());
        }
    }
    std::printf("%s: %zu passed, %d failed\n", set.c_str(), cases.size() - size_t(failed), failed);
    std::fflush(stdout);
    return failed;
}

}  // namespace

int main(int count, char **arguments) {
    try {
        if (count < 2) throw std::runtime_error("usage: replay CASES [SET ...]");
        std::vector<Case> cases = read_cases(arguments[1]);
        std::vector<std::string> sets(arguments + 2, arguments + count);
        if (sets.empty()) {
            std::istringstream names(ob_instruction_sets());
            sets.assign(std::istream_iterator<std::string>(names), {});
        }
        int failed = 0;
        for (const std::string &set : sets) failed += replay(cases, set);
        return failed != 0 || cases.empty() || sets.empty();
    } catch (const std::exception &error) {
        std::fprintf(stderr, "replay: %s\n", error.what());
        return 2;
    }
}
