"""The SQL of the journal on PostgreSQL: each write takes the run and a list for each column.

Text is compared byte by byte (COLLATE "C"), so that pages by key are the same in every database.
`seq` grows in the order of commits within a run, because a run has one writer.
"""

from __future__ import annotations

ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtextextended('polysilicon schema', 0))"
VERSION = 2
"""Of the tables. Version 1 had no table of versions, and nothing of several gateways."""

HAS_VERSION = "SELECT to_regclass('polysilicon_version') IS NOT NULL"
KNOWN_VERSION = "SELECT max(version) FROM polysilicon_version"
LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%s, 1))"
SCHEMA = """
CREATE TABLE IF NOT EXISTS polysilicon_version (version integer PRIMARY KEY);
CREATE TABLE IF NOT EXISTS polysilicon_run (
    run text COLLATE "C" PRIMARY KEY, name text NOT NULL, made timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS polysilicon_task (
    run text COLLATE "C", task_id text COLLATE "C", agent text NOT NULL, input bytea NOT NULL,
    record bytea, PRIMARY KEY (run, task_id)
);
CREATE TABLE IF NOT EXISTS polysilicon_step (
    run text COLLATE "C", task_id text COLLATE "C", step_id text COLLATE "C",
    seq bigint GENERATED ALWAYS AS IDENTITY, record bytea NOT NULL, result bytea,
    PRIMARY KEY (run, task_id, step_id), UNIQUE (run, seq)
);
"""
NEW_VERSION = "INSERT INTO polysilicon_version VALUES (%s) ON CONFLICT DO NOTHING"
NEW_RUN = "INSERT INTO polysilicon_run (run, name) VALUES (%s, %s)"
KNOWN_RUN = "SELECT 1 FROM polysilicon_run WHERE run = %s"
ACCEPT = """
INSERT INTO polysilicon_task (run, task_id, agent, input)
SELECT %s, * FROM unnest(%b::text[], %b::text[], %b::bytea[]) ON CONFLICT DO NOTHING
"""
_STEP_ROWS = """
INSERT INTO polysilicon_step (run, task_id, step_id, record, result)
SELECT %s, * FROM unnest(%b::text[], %b::text[], %b::bytea[], %b::bytea[])
"""
BEGIN_STEP = _STEP_ROWS + "ON CONFLICT DO NOTHING"
END_STEP = (
    _STEP_ROWS
    + """
ON CONFLICT (run, task_id, step_id)
DO UPDATE SET record = EXCLUDED.record, result = EXCLUDED.result, seq = DEFAULT
"""
)
END_STEP_ONCE = f"{END_STEP} WHERE polysilicon_step.result IS NULL"
END_TASK = """
WITH ended AS (
    SELECT %s::text AS run, * FROM unnest(%b::text[], %b::bytea[]) AS u (task_id, record)
)
UPDATE polysilicon_task AS t SET record = ended.record FROM ended
WHERE t.run = ended.run AND t.task_id = ended.task_id AND t.record IS NULL
"""
PENDING = """
SELECT task_id, agent, input FROM polysilicon_task
WHERE run = %s AND task_id > %s AND record IS NULL ORDER BY task_id LIMIT %s
"""
TASKS = """
SELECT task_id, record FROM polysilicon_task
WHERE run = %s AND task_id > %s AND record IS NOT NULL ORDER BY task_id LIMIT %s
"""
KNOWN_TASKS = """
SELECT task_id, record FROM polysilicon_task WHERE run = %s AND task_id = ANY(%s::text[])
"""
HISTORY = """
SELECT step_id, record, result FROM polysilicon_step
WHERE run = %s AND task_id = %s AND result IS NOT NULL
"""
STEPS = """
SELECT seq, record FROM polysilicon_step WHERE run = %s AND seq > %s ORDER BY seq LIMIT %s
"""
ENDED = """
SELECT seq, record FROM polysilicon_step
WHERE run = %s AND seq > %s AND result IS NOT NULL
AND (%s::text IS NULL OR task_id = %s::text) ORDER BY seq LIMIT %s
"""
FORGET_STEPS = """
DELETE FROM polysilicon_step
WHERE run = %s AND seq <= %s AND result IS NOT NULL AND task_id <> ALL(%s::text[])
"""
FORGET_TASKS = """
DELETE FROM polysilicon_task
WHERE run = %s AND record IS NOT NULL AND task_id = ANY(%s::text[])
"""
COMPACT = "UPDATE polysilicon_step SET result = '' WHERE run = %s AND length(result) > 0"
