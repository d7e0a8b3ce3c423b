"""Pictures of graphs and processes."""

import jax.numpy as jnp
import matplotlib
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import mjp
from mjp.drawing import draw_process, possible_transitions, state_colours, tree_layout

matplotlib.use("agg")
ILLNESS = mjp.MarkovJump({("well", "ill"): 0.2, ("ill", "well"): 0.1, ("ill", "dead"): 0.3})


@pytest.fixture(autouse=True)
def _close():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def panel() -> mjp.Graph:
    frame = pd.DataFrame(
        {"id": [1, 1, 1, 2, 2], "t": [0, 1, 2, 0, 3.0], "s": ["well", None, "ill", "ill", "dead"]}
    )
    return mjp.panel(ILLNESS, mjp.Panel.from_frame(frame, "id", "t", "s"), observe=mjp.Exactly())


def tree() -> mjp.Graph:
    g = mjp.tree("((a:1,b:1)ab:0.5,c:1.5)root;", ILLNESS, initial=dist.Categorical(jnp.ones(3) / 3))
    return g.observe_each(mjp.Exactly(), {"a": "ill", "b": "well"})


def chain(n: int) -> mjp.Graph:
    hidden = mjp.MarkovChain(jnp.array([[0.9, 0.1], [0.2, 0.8]]))
    g = mjp.chain(hidden, np.arange(n), initial=dist.Categorical(jnp.ones(2) / 2))
    return g.observe_each(lambda s: dist.Normal(s, 1.0), np.append(np.zeros(n - 1), np.nan))


def by_hand() -> mjp.Graph:
    g = mjp.Graph().root("x0", "well")
    g.edge("x0", "x1", ILLNESS, duration=1.0).edge("x0", "x2", ILLNESS, duration=1.0)
    return g.observe("x1", mjp.Exactly(), "ill")


def texts(ax) -> set[str]:
    return {text.get_text() for text in ax.texts}


def legend(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_tree_is_laid_out_by_branch_lengths():
    g = tree()
    x, y, leaves = tree_layout(g)
    at = {name: (x[i], y[i]) for i, name in enumerate(g.names)}
    assert at["root"][0] == 0
    assert at["a"][0] == at["c"][0] == 1.5
    assert at["ab"] == (0.5, (at["a"][1] + at["b"][1]) / 2)
    assert {g.names[i] for i in leaves} == {"a", "b", "c"}


def test_tree_names_tips_and_states():
    ax = tree().draw()
    assert {"a", "b", "c"} <= texts(ax)
    assert legend(ax) == ["well", "ill", "not observed"]


def test_panel_has_a_row_per_subject():
    ax = panel().draw()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1", "2"]
    assert legend(ax) == ["well", "ill", "dead", "not observed"]


def test_a_long_chain_is_abbreviated():
    assert {str(i) for i in range(4)} <= texts(chain(4).draw())
    shown = texts(chain(500).draw())
    assert " 488 more " in shown
    assert {"0", "499"} <= shown
    assert "250" not in shown


def test_graph_by_hand():
    ax = by_hand().draw()
    assert {"x0", "x1", "x2"} <= texts(ax)
    assert legend(ax) == ["well", "ill", "not observed"]


def test_given_axes_are_used():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    for graph in (tree(), panel(), chain(3), by_hand()):
        assert graph.draw(ax) is ax


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="no nodes"):
        mjp.Graph().draw()
    with pytest.raises(ValueError, match="pass max_nodes=5"):
        tree().draw(max_nodes=4)


def test_process_with_arrows_numbers_and_colours():
    ax = draw_process(ILLNESS, numbers={("well", "ill"): "0.20", ("ill", "dead"): "0.31"})
    assert {"well", "ill", "dead", "0.20", "0.31"} <= texts(ax)
    assert possible_transitions(ILLNESS) == [("well", "ill"), ("ill", "well"), ("ill", "dead")]


def test_many_transitions_become_a_table():
    process = mjp.MarkovJump(np.ones((6, 6)), states=list("abcdef"))
    pairs = possible_transitions(process)
    ax = draw_process(process, numbers=dict.fromkeys(pairs, "0.5"))
    assert len(ax.texts) == 30
    assert [label.get_text() for label in ax.get_yticklabels()] == list("abcdef")


@pytest.mark.parametrize("n", [1, 7, 30])
def test_states_have_distinct_colours(n):
    assert len(set(state_colours(range(n)))) == n
