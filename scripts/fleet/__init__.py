"""Recorders as they behave in the field, for scripts/simulate-fleet.

A reading order: plan.py (what can be asked for), device.py with clock.py and sound.py (one recorder
in a shop), life.py with timeline.py (what happens to it, and when), agent.py (how it uploads),
run.py (all of them against a service, then the verdict). The verdict comes from verdict_site.py or
verdict_http.py. What a client knows by itself, and how it uploads at all, does not belong here: see
recorder_agent.py and soak_load.py.
"""
