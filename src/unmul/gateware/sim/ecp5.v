// Cells of ECP5 around LiteDRAM, as far as a host can tell them apart: half a cycle of the pins' clock is the grain,
// nothing takes time between. Lattice publishes no model that may be used here; the cycles that a cell takes are those
// that LiteDRAM's own constants assume. Four quarters are a cycle of SCLK: (SCLK, ECLK) = 11, 10, 01, 00.

module EHXPLLL #(
    parameter CLKI_DIV = 1, CLKFB_DIV = 1, FEEDBK_PATH = "", CLKOP_ENABLE = "", CLKOP_DIV = 1, CLKOP_CPHASE = 0,
    CLKOP_FPHASE = 0, CLKOS_ENABLE = "", CLKOS_DIV = 1, CLKOS_CPHASE = 0, CLKOS_FPHASE = 0, CLKOS2_ENABLE = "",
    CLKOS2_DIV = 1, CLKOS2_CPHASE = 0, CLKOS2_FPHASE = 0
) (input CLKI, RST, STDBY, output CLKOP, CLKOS, CLKOS2, output reg LOCK);
    assign CLKOP = CLKI, CLKOS = CLKI, CLKOS2 = CLKI;  // whoever simulates gives the pins' clock for the crystal's
    always @(posedge CLKI or posedge RST) LOCK <= !RST;
endmodule

module ECLKBRIDGECS(input CLK0, SEL, output ECSOUT);
    assign ECSOUT = CLK0;
endmodule

module ECLKSYNCB(input ECLKI, STOP, output ECLKO);
    reg stopped = 0;
    always @(negedge ECLKI) stopped <= STOP;
    assign ECLKO = ECLKI & ~stopped;
endmodule

module CLKDIVF #(parameter DIV = "2.0") (input CLKI, RST, ALIGNWD, output reg CDIVX);
    always @(posedge CLKI or posedge RST) CDIVX <= !RST & ~CDIVX;
endmodule

module FD1S3BX(input CK, D, PD, output reg Q);
    always @(posedge CK or posedge PD) Q <= PD | D;
endmodule

module DDRDLLA(input CLK, RST, UDDCNTLN, FREEZE, output DDRDEL, output reg LOCK);
    assign DDRDEL = 0;
    always @(posedge CLK or posedge RST) LOCK <= !RST;
endmodule

module DELAYG #(parameter DEL_VALUE = 0, DEL_MODE = "") (input A, output Z);
    assign Z = A;
endmodule

module TRELLIS_IO #(parameter DIR = "") (inout B, input I, T, output O);
    assign B = T ? 1'bz : I;
    assign O = B;
endmodule

module serializer(input D0, D1, D2, D3, SCLK, ECLK, output Q);
    reg [3:0] d;
    always @(posedge SCLK) d <= {D3, D2, D1, D0};
    assign Q = d[{~SCLK, ~ECLK}];
endmodule

module ODDRX2DQA(input D0, D1, D2, D3, DQSW270, SCLK, ECLK, RST, output Q);
    serializer all(D0, D1, D2, D3, SCLK, ECLK, Q);
endmodule

module ODDRX2DQSB(input D0, D1, D2, D3, DQSW, SCLK, ECLK, RST, output Q);
    serializer all(D0, D1, D2, D3, SCLK, ECLK, Q);
endmodule

// A cycle more than the pins of data: LiteDRAM's write latency adds up so.
module ODDRX2F(input D0, D1, D2, D3, SCLK, ECLK, RST, output Q);
    reg [3:0] d;
    always @(posedge SCLK) d <= RST ? 0 : {D3, D2, D1, D0};
    serializer all(d[0], d[1], d[2], d[3], SCLK, ECLK, Q);
endmodule

module TSHX2DQA(input T0, T1, DQSW270, SCLK, ECLK, RST, output Q);
    serializer all(T0, T0, T1, T1, SCLK, ECLK, Q);
endmodule

module TSHX2DQSA(input T0, T1, DQSW, SCLK, ECLK, RST, output Q);
    serializer all(T0, T0, T1, T1, SCLK, ECLK, Q);
endmodule

// READ opens a window on the strobe, as many half cycles later as READCLKSEL says, in steps of two; it closes half a
// cycle late. DQSR90, elsewhere the strobe a quarter of a cycle late, says here whether the window is open. A burst is
// four rises of the strobe in it.
module DQSBUFM #(
    parameter DQS_LI_DEL_ADJ = "", DQS_LI_DEL_VAL = 0, DQS_LO_DEL_ADJ = "", DQS_LO_DEL_VAL = 0
) (
    input DQSI, READ0, READ1, READCLKSEL0, READCLKSEL1, READCLKSEL2, DDRDEL, ECLK, SCLK, RST, PAUSE,
    input RDLOADN, RDMOVE, RDDIRECTION, WRLOADN, WRMOVE, WRDIRECTION,
    output DQSR90, DQSW, DQSW270, DATAVALID, BURSTDET, RDPNTR0, RDPNTR1, RDPNTR2, WRPNTR0, WRPNTR1, WRPNTR2
);
    reg read, strobe;
    reg [4:0] past;
    reg [2:0] rises, seen;
    wire [5:0] reads = {past, read};
    wire [1:0] late = {READCLKSEL2, READCLKSEL1};
    assign DQSR90 = ~PAUSE & (reads[late] | reads[late + 3'd1]);
    assign BURSTDET = seen != 0;
    assign {DQSW, DQSW270, DATAVALID, RDPNTR0, RDPNTR1, RDPNTR2, WRPNTR0, WRPNTR1, WRPNTR2} = 0;
    always @(posedge SCLK) read <= READ0;
    always @(edge ECLK) begin
        past <= {past[3:0], read};
        strobe <= DQSI;
        rises <= DQSR90 ? rises + (DQSI & ~strobe) : 0;
        seen <= rises == 4 & ~DQSR90 ? 7 : seen - (seen != 0);
    end
endmodule

// Four bits of a cycle, the first one lowest; what comes outside the strobe's window is wrong.
module IDDRX2DQA(
    input D, DQSR90, ECLK, SCLK, RST, RDPNTR0, RDPNTR1, RDPNTR2, WRPNTR0, WRPNTR1, WRPNTR2,
    output Q0, Q1, Q2, Q3, QWL
);
    reg [4:0] bits;
    reg [3:0] delayed [4:0];
    assign {Q3, Q2, Q1, Q0} = delayed[4];
    assign QWL = 0;
    always @(edge ECLK) bits <= {DQSR90 ? D : ~D, bits[4:1]};
    always @(posedge SCLK) begin
        delayed[0] <= bits[3:0];
        for (int at = 1; at < 5; at = at + 1) delayed[at] <= delayed[at - 1];
    end
endmodule
