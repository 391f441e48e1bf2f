// C interface of `dma_engine` for Rust: one call per clock.
#include "model.h"

extern "C" {
// Runs one clock: drives the inputs and samples the outputs before the rising edge.
void NAME(step)(void* raw, Ports* ports) {
    MODEL& top = static_cast<Sim*>(raw)->top;
    Ports& p = *ports;
    top.rst_n = p.rst_n;
    top.flr = p.flr;
    top.max_payload = p.max_payload;
    top.max_read_request = p.max_read_request;
    top.user_irq = p.user_irq;
    top.irq_ack = p.irq_ack;
    TO_REGISTERS(s_axil_, p.lite);
    TO_MASTER(m_host_, p.host, SAME);
    TO_MASTER(m_card_, p.card, SAME);
    top.clk = 0;
    top.eval();
    FROM_MASTER(m_host_, p.host);
    FROM_MASTER(m_card_, p.card);
    FROM_REGISTERS(s_axil_, p.lite);
    p.irq_req = top.irq_req;
    p.flr_done = top.flr_done;
    p.card_dead = top.card_dead;
    top.clk = 1;
    top.eval();
}
}
