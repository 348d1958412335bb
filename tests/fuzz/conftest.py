"""Settings of the fuzz tests: the same examples in every run, as many more as SR_FUZZ_EXAMPLES says."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fuzz", derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("fuzz")
