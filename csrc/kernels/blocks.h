// How a product is cut into the register blocks of a kernel file. Included as lanes.h is, after the file has defined
// panel_of_one, block<T, P>, and the largest block: kBlockTokens (a divisor of a group of tokens) x kBlockPanels.
// Panels are the outer loop, so that weights come from memory once for all tokens.

template <int T, int P>
void block_of(int tokens, const Matrix& w, const Activations& x, int first, int all, int panel, int32_t* out, int stride) {
    if (tokens == T)
        block<T, P>(w.panel(panel), w.panel_bytes(), x.token(first), x.group(first, all), w.padded_columns(),
                    x.sum + first, out + size_t(first) * stride + panel * kTileRows, stride);
    else if constexpr (T > 1)
        block_of<T - 1, P>(tokens, w, x, first, all, panel, out, stride);
}

template <int P>
void all_tokens(int tokens, const Matrix& w, const Activations& x, int panel, int32_t* out, int stride) {
    for (int first = 0; first < tokens; first += kBlockTokens) {
        const int rest = tokens - first;
        block_of<kBlockTokens, P>(rest < kBlockTokens ? rest : kBlockTokens, w, x, first, tokens, panel, out, stride);
    }
}

void product(const Matrix& w, const Activations& x, int tokens, Range panels, int32_t* out, int stride) {
    int panel = panels.first;
    if (tokens == 1)
        for (; panel < panels.last; ++panel)
            panel_of_one(w.panel(panel), x.q, w.padded_columns(), x.sum[0], out + panel * kTileRows);
    for (; panel + kBlockPanels <= panels.last; panel += kBlockPanels)
        all_tokens<kBlockPanels>(tokens, w, x, panel, out, stride);
    for (; panel < panels.last; ++panel) all_tokens<1>(tokens, w, x, panel, out, stride);
}
