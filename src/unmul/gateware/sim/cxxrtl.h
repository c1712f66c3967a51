// The core as CXXRTL has it: its ports are wrapped, so that they are members by their names. Little-endian hosts only.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core.cpp"

class Port {
public:
    template <class Storage>
    explicit Port(Storage& storage) : item_(storage) {}

    operator uint32_t() const { return *item_.curr; }
    void operator=(uint64_t value) { put(&value, (item_.width + 7) / 8); }
    void put(const void* bytes, size_t count) { std::memcpy(item_.next, bytes, count); }

private:
    cxxrtl::debug_item item_;
};

struct Core {
    cxxrtl_design::p_core core;
    Port clk{core.p_clk}, rst{core.p_rst}, start{core.p_start}, token{core.p_token}, first{core.p_first};
    Port prefill{core.p_prefill}, done{core.p_done}, next_token{core.p_next__token};
    Port logit_valid{core.p_logit__valid}, logit{core.p_logit}, saturations{core.p_saturations};
    Port program_write{core.p_program__write}, program_address{core.p_program__address};
    Port program_data{core.p_program__data};
    Port state_write{core.p_state__write}, state_address{core.p_state__address};
    Port state_write_data{core.p_state__write__data}, state_read_data{core.p_state__read__data};
    Port address{core.p_address}, address_valid{core.p_address__valid}, address_ready{core.p_address__ready};
    Port data{core.p_data}, data_valid{core.p_data__valid}, starved{core.p_starved}, taken{core.p_taken};
    Port waits_for_unit{core.p_waits__for__unit}, waits_for_register{core.p_waits__for__register};
    Port waits_for_queue{core.p_waits__for__queue};
    Port stream_busy{core.p_stream__busy}, stream_write{core.p_stream__write}, stream_vd{core.p_stream__vd};
    Port stream_index{core.p_stream__index}, stream_element{core.p_stream__element};
    Port norm_busy{core.p_norm__busy}, norm_write{core.p_norm__write}, norm_vd{core.p_norm__vd};
    Port norm_index{core.p_norm__index}, norm_element{core.p_norm__element};
    Port row_busy{core.p_row__busy}, row_write{core.p_row__write}, row_vd{core.p_row__vd};
    Port row_index{core.p_row__index}, row_element{core.p_row__element};

    // step() would end before outputs have seen the registers' new values.
    void eval() {
        do core.eval();
        while (core.commit());
    }
    void put_data(const void* bytes, size_t count) { data.put(bytes, count); }
};
