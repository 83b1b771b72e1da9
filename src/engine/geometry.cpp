#include "geometry.h"

namespace ob {

Interval resampling_halo(const Description &network, bool chroma) {
    Interval halo;
    auto widen = [&](const Resampler &r) {
        halo.begin = std::min<int64_t>(halo.begin, -r.before);
        halo.end = std::max<int64_t>(halo.end, r.after());
    };
    if (network.has_residual) widen(network.residual);
    if (chroma) widen(network.chroma);
    return halo;
}

Interval needed_of_tail(const Description &network, Interval wanted, int64_t size) {
    int pad = network.reduction.present && !network.reduction.average ? network.reduction.pad : 0;
    return clipped({wanted.begin - pad, wanted.end + pad}, size);
}

Interval needed_columns(const Network &network, Interval wanted, int64_t width) {
    Interval need = needed_of_tail(network.description, wanted, width);
    for (size_t k = network.layers.size(); k-- > 0;) {
        int radius = network.layers[k].layer->column_radius();
        // Winograd computes whole tiles.
        if (network.layers[k].winograd)
            need = {round_down(need.begin, network.phases), round_up(need.end, network.phases)};
        need = clipped({need.begin - radius, need.end + radius}, width);
    }
    Interval halo = resampling_halo(network.description, true);
    // Resizing reads the picture directly, beside the layers.
    need.begin = std::min(need.begin, std::max<int64_t>(0, wanted.begin + halo.begin));
    need.end = std::max(need.end, std::min(width, wanted.end + halo.end));
    need.begin = round_down(need.begin, 4 * network.description.reduces());
    return need;
}

Interval needed_rows(const Network &network, Interval wanted, int64_t height) {
    Interval need = needed_of_tail(network.description, wanted, height);
    // network.lag is the sum of the layers' row radii.
    need = {need.begin - network.lag, need.end + network.lag};
    Interval halo = resampling_halo(network.description, true);
    need.begin = std::min(need.begin, wanted.begin + halo.begin);
    need.end = std::max(need.end, wanted.end + halo.end);
    return clipped(need, height);
}

}  // namespace ob
