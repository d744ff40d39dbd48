"""The engine. Read scalar, dispatch, elementary, rule, rules, graph, value, in this order: about 1,000 lines."""
