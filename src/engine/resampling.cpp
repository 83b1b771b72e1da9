// The end of the chain: rows of the result from the tail's rows, the resized picture and chroma.
#include <algorithm>
#include <cstring>

#include "strip_state.h"

namespace ob {

// Row y of the input, resized along rows and columns, for phase `phase` of the result's rows: one row for
// each phase of the result's columns, in `phase_rows`. Example, x2: phase 0 of rows gives the even rows of
// the result, and rows[0] and rows[1] are their even and odd columns.
void Strip::State::resize_plane(const Resampler &resampler, int plane, int64_t y, int phase,
                                const float *(&rows)[MAX_PHASES]) {
    const float *source[64];
    for (int k = 0; k < resampler.taps; k++) {
        int64_t row = std::clamp<int64_t>(y + k - resampler.before, 0, height - 1);
        source[k] = planes.row(plane, row) - MARGIN;
    }
    float *sum = line.data();
    kernels.weighted(source, resampler.weight.data() + size_t(phase) * resampler.taps, resampler.taps,
                     size_t(buffer.size()) + 2 * MARGIN, sum);
    // The vertical pass covers the margins too, so that the horizontal pass can read beyond the row's ends.
    const float *first = sum + MARGIN + (columns.begin - buffer.begin) - resampler.before;
    for (int p = 0; p < resampler.phases; p++) rows[p] = phase_rows.data() + size_t(p) * phase_width;
    if (resampler.stride > 1)
        kernels.reduce(first, resampler.weight.data(), resampler.stride, resampler.taps,
                       size_t(columns.size() / resampler.stride), phase_rows.data());
    else
        kernels.enlarge(first, resampler.weight.data(), resampler.phases, resampler.taps,
                        size_t(columns.size()), phase_rows.data(), phase_width);
}

// Converts a row of the result, in the network's channels and chroma, to the picture's samples.
void Strip::State::write_row(int64_t row, float *const *channels, const Samples &target, int64_t first_row) {
    int64_t enlarges = description.enlarges(), reduces = description.reduces();
    int64_t begin = columns.begin * enlarges / reduces, end = columns.end * enlarges / reduces;
    size_t count = size_t(end - begin);
    if (format.colour == OB_Y_OF_RGB) kernels.to_rgb(channels[0], channels[1], channels[2], count);
    // The inverse of y = (16 + 219 g) / 255. Example: y = 235 / 255 gives g = 1.
    if (format.colour == OB_Y_OF_GREY)
        kernels.scale_and_shift(channels[0], 255.0f / 219, -16.0f / 219, count);
    if (format.colour == OB_RGB_OF_GREY) {
        kernels.luma(channels[0], channels[1], channels[2], channels[0], count);
        kernels.scale_and_shift(channels[0], 255.0f / 219, -16.0f / 219, count);
    }
    size_t sample = bytes_of_sample(format.target);
    char *to =
        static_cast<char *>(target.base) + sample * ((row - first_row) * target.row + begin * target.pixel);
    kernels.write(channels, picture_channels, format.target, count, to, ptrdiff_t(target.pixel),
                  ptrdiff_t(target.channel));
}

// Writes the rows of the result that row y of the input gives, for networks that enlarge or keep the size.
void Strip::State::emit_rows(int64_t y, const Samples &target, int64_t first_row) {
    int scale = description.enlarges(), channels = description.channels;
    size_t count = size_t(columns.size());
    // The tail's row in the order of the pixels.
    const LayerRows &last = layer_rows.back();
    size_t tail_stride = size_t(round_up(buffer.size(), 64)) + 2 * MARGIN;
    const float *features[4 * 4 * 3];
    int64_t skipped = columns.begin - buffer.begin;
    for (int o = 0; o < network.layers.back().layer->out; o++) {
        const float *from =
            reinterpret_cast<const float *>(last.out.row(y) + MARGIN) + size_t(o) * network.phases * stride;
        if (network.phases == 1) {
            features[o] = from + skipped;
        } else {
            float *to = tail.data() + size_t(o) * tail_stride;
            kernels.join_phases(from, stride, network.phases, size_t(buffer.size()), to);
            features[o] = to + skipped;
        }
    }
    for (int dy = 0; dy < scale; dy++) {
        float *channel_rows[3];
        const float *resized[MAX_PHASES];
        for (int c = 0; c < 3; c++) channel_rows[c] = output.data() + size_t(c) * output_width;
        for (int c = 0; c < channels; c++) {
            if (description.has_residual) resize_plane(description.residual, c, y, dy, resized);
            // Pixel shuffle: row dy of channel c consists of the tail's channels (c s + dy) s + dx, dx = 0 to
            // s - 1, in turn. Example, x2 luma: channels 0 and 1 make the even rows, 2 and 3 the odd ones.
            kernels.interleave(features + (c * scale + dy) * scale,
                               description.has_residual ? resized : nullptr, scale, count, channel_rows[c]);
        }
        for (int c = 0; c < chroma_planes; c++) {
            resize_plane(description.chroma, channels + c, y, dy, resized);
            kernels.interleave(resized, nullptr, scale, count, channel_rows[channels + c]);
        }
        write_row(y * scale + dy, channel_rows, target, first_row);
    }
}

// Writes a row of the result of a network that reduces; y is the first of the input rows that it replaces.
void Strip::State::emit_reduced(int64_t y, const Samples &target, int64_t first_row) {
    const Reduction &reduction = description.reduction;
    int scale = description.scale, channels = description.channels;
    size_t count = size_t(columns.size() / scale);
    int64_t skipped = columns.begin - buffer.begin;
    float *channel_rows[3];
    const float *resized[MAX_PHASES];
    for (int c = 0; c < 3; c++) channel_rows[c] = output.data() + size_t(c) * output_width;
    for (int c = 0; c < channels; c++) {
        float *to = channel_rows[c];
        if (reduction.average) {
            std::memset(to, 0, count * sizeof(float));
            for (int r = 0; r < scale; r++)
                for (int l = 0; l < scale; l++) {
                    const float *from = tail_rows.row(c, y + r) + skipped + l;
                    for (size_t x = 0; x < count; x++) to[x] += from[x * size_t(scale)];
                }
            for (size_t x = 0; x < count; x++) to[x] /= float(scale * scale);
        } else {
            // Each weight of the strided kernel is added for a whole row of outputs. Example: scale 2, kernel
            // 4, pad 1: output x adds weight[l] * from[2 x + l], where from[0] is the column before the
            // first.
            std::fill_n(to, count, reduction.bias[size_t(c)]);
            for (int i = 0; i < reduction.in; i++)
                for (int r = 0; r < reduction.kernel; r++) {
                    int64_t row = y + r - reduction.pad;
                    // Zero padding adds nothing.
                    if (row < 0 || row >= height) continue;
                    const float *from = tail_rows.row(i, row) + skipped - reduction.pad;
                    const float *weight =
                        reduction.weight.data() +
                        ((size_t(c) * reduction.in + i) * reduction.kernel + r) * reduction.kernel;
                    for (int l = 0; l < reduction.kernel; l++)
                        for (size_t x = 0; x < count; x++)
                            to[x] += weight[l] * from[x * size_t(scale) + size_t(l)];
                }
        }
        if (description.has_residual) {
            const float *network_row = to;
            resize_plane(description.residual, c, y, 0, resized);
            kernels.interleave(&network_row, resized, 1, count, to);
        }
    }
    for (int c = 0; c < chroma_planes; c++) {
        resize_plane(description.chroma, channels + c, y, 0, resized);
        kernels.interleave(resized, nullptr, 1, count, channel_rows[channels + c]);
    }
    int64_t row = y / scale;
    write_row(row, channel_rows, target, first_row);
}

}  // namespace ob
