"""The SQL of what several gateways share: leases, who has which task, what keys have spent.

A gateway's token is a row of `polysilicon_gateway`. Whatever it commits holds that row (`FENCE`),
and whoever takes its tasks removes it, so that the one excludes the other: a token that is gone
writes nothing any more, and as the identity of rows only grows, none comes again.
"""

from __future__ import annotations

SCHEMA = """
CREATE TABLE IF NOT EXISTS polysilicon_shared (
    one boolean PRIMARY KEY DEFAULT true CHECK (one), run text COLLATE "C" NOT NULL
);
CREATE TABLE IF NOT EXISTS polysilicon_gateway (
    token bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run text COLLATE "C" NOT NULL,
    name text NOT NULL, until timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS polysilicon_asked (
    run text COLLATE "C", task_id text COLLATE "C", seq bigint GENERATED ALWAYS AS IDENTITY,
    caller text NOT NULL, idempotency text, agent text NOT NULL, created_at float8 NOT NULL,
    status text NOT NULL, ended bytea, ended_at float8, token bigint NOT NULL,
    turn integer NOT NULL DEFAULT 0, cancel boolean NOT NULL DEFAULT false,
    PRIMARY KEY (run, task_id), UNIQUE (run, seq), UNIQUE (run, caller, idempotency)
);
DO $$ BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = 'polysilicon_asked'::regclass AND attname = 'given'
    ) THEN
        ALTER TABLE polysilicon_asked ADD COLUMN given text;
    END IF;
END $$;
CREATE INDEX IF NOT EXISTS polysilicon_asked_open ON polysilicon_asked (run, token)
WHERE ended IS NULL;
CREATE INDEX IF NOT EXISTS polysilicon_asked_cancel ON polysilicon_asked (run, token)
WHERE ended IS NULL AND cancel;
CREATE INDEX IF NOT EXISTS polysilicon_asked_caller ON polysilicon_asked (run, caller, seq);
CREATE INDEX IF NOT EXISTS polysilicon_asked_ended ON polysilicon_asked (run, ended_at)
WHERE ended IS NOT NULL;
CREATE TABLE IF NOT EXISTS polysilicon_spent (
    run text COLLATE "C", key text COLLATE "C", period text COLLATE "C", token bigint,
    usd float8 NOT NULL, PRIMARY KEY (run, key, period, token)
);
CREATE TABLE IF NOT EXISTS polysilicon_forgotten (
    run text COLLATE "C" PRIMARY KEY, sums bytea NOT NULL
);
"""
NEW_SHARED = "INSERT INTO polysilicon_shared (run) VALUES (%s) ON CONFLICT DO NOTHING"
SHARED = "SELECT run FROM polysilicon_shared"
NOW = """
SELECT extract(epoch FROM clock_timestamp() - made)::float8 FROM polysilicon_run WHERE run = %s
"""

# Leases. Its division by zero ends a transaction, with all that a pipeline has sent behind it.
FENCE = """
SELECT 1 / count(*)::int FROM (
    SELECT 1 FROM polysilicon_gateway WHERE token = %s FOR KEY SHARE
) AS held
"""
REGISTER = """
INSERT INTO polysilicon_gateway (run, name, until)
VALUES (%s, %s, clock_timestamp() + %s * interval '1 second') RETURNING token
"""
BEAT = """
UPDATE polysilicon_gateway SET until = clock_timestamp() + %s * interval '1 second'
WHERE token = %s RETURNING token
"""
RELEASE = "DELETE FROM polysilicon_gateway WHERE run = %s AND token = %s"
ONE_TAKES = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 2))"
END_LEASES = """
DELETE FROM polysilicon_gateway WHERE token IN (
    SELECT token FROM polysilicon_gateway
    WHERE run = %s AND token <> %s AND until < clock_timestamp() FOR UPDATE SKIP LOCKED
) RETURNING token, name
"""
TAKE = """
WITH taken AS (
    UPDATE polysilicon_asked AS a SET token = %s, turn = turn + 1
    WHERE run = %s AND ended IS NULL AND agent = ANY(%s::text[])
    AND token <> ALL(ARRAY(SELECT g.token FROM polysilicon_gateway AS g WHERE g.run = a.run))
    RETURNING task_id, seq
)
SELECT task_id FROM taken ORDER BY seq
"""
CANCELS = """
SELECT task_id FROM polysilicon_asked WHERE run = %s AND token = %s AND ended IS NULL AND cancel
"""

# What was asked. The input is in the journal's table of tasks.
ADD = """
WITH new AS (
    SELECT %s::text AS run, * FROM unnest(
        %b::text[], %b::text[], %b::text[], %b::text[], %b::bytea[], %b::float8[], %b::int8[],
        %b::text[]
    ) AS u (task_id, caller, idempotency, agent, input, created_at, token, given)
), asked AS (
    INSERT INTO polysilicon_asked
    (run, task_id, caller, idempotency, agent, created_at, status, token, given)
    SELECT run, task_id, caller, idempotency, agent, created_at, 'queued', token, given FROM new
    ON CONFLICT DO NOTHING RETURNING task_id
)
INSERT INTO polysilicon_task (run, task_id, agent, input)
SELECT run, task_id, agent, input FROM new WHERE task_id IN (SELECT task_id FROM asked)
ON CONFLICT DO NOTHING
"""
BEGUN = """
UPDATE polysilicon_asked AS a SET status = 'in_progress'
FROM (SELECT %s::text AS run, * FROM unnest(%b::text[], %b::text[]) AS u (task_id, status)) AS u
WHERE a.run = u.run AND a.task_id = u.task_id AND a.ended IS NULL
"""
ENDED = """
UPDATE polysilicon_asked AS a SET status = u.status, ended = u.ended, ended_at = u.ended_at
FROM (
    SELECT %s::text AS run, * FROM unnest(%b::text[], %b::text[], %b::bytea[], %b::float8[])
    AS u (task_id, status, ended, ended_at)
) AS u
WHERE a.run = u.run AND a.task_id = u.task_id AND a.ended IS NULL
"""
CANCEL = """
UPDATE polysilicon_asked AS a SET cancel = true
FROM (SELECT %s::text AS run, * FROM unnest(%b::text[], %b::text[]) AS u (task_id, status)) AS u
WHERE a.run = u.run AND a.task_id = u.task_id AND a.ended IS NULL
"""
_ENTRIES = """
SELECT a.seq, a.task_id, a.caller, a.agent, t.input, a.created_at, a.status, a.given,
    a.token, a.ended, t.record
FROM polysilicon_asked AS a JOIN polysilicon_task AS t USING (run, task_id) WHERE a.run = %s
"""
ENTRY = f"{_ENTRIES} AND a.task_id = %s"
WITH_KEY = f"{_ENTRIES} AND a.caller = %s AND a.idempotency = %s"
OPEN = f"{_ENTRIES} AND a.task_id = ANY(%s::text[]) AND a.ended IS NULL ORDER BY a.seq"
PAGE = f"{_ENTRIES} {{asked}} ORDER BY a.seq DESC LIMIT %s"
ASKED = {
    "caller": "AND a.caller = %s", "agent": "AND a.agent = %s", "status": "AND a.status = %s",
    "before": "AND a.seq < %s",
}  # fmt: skip
"""What a page may be asked for; the planner is told only that, and so finds the index of it."""

# What keys have spent: of each gateway so far, and, of token 0, of those that are gone.
SPEND = """
INSERT INTO polysilicon_spent (run, key, period, token, usd)
SELECT %s, * FROM unnest(%b::text[], %b::text[], %b::int8[], %b::float8[])
ON CONFLICT (run, key, period, token) DO UPDATE SET usd = EXCLUDED.usd
"""
SPENT_ELSEWHERE = """
SELECT key, period, sum(usd) FROM polysilicon_spent WHERE run = %s AND token <> %s
GROUP BY key, period
"""
FOLD_SPENT = """
WITH gone AS (
    DELETE FROM polysilicon_spent AS s WHERE run = %s AND token > 0
    AND token <> ALL(ARRAY(SELECT g.token FROM polysilicon_gateway AS g WHERE g.run = s.run))
    RETURNING run, key, period, usd
)
INSERT INTO polysilicon_spent (run, key, period, token, usd)
SELECT run, key, period, 0, sum(usd) FROM gone GROUP BY run, key, period
ON CONFLICT (run, key, period, token) DO UPDATE SET usd = polysilicon_spent.usd + EXCLUDED.usd
"""

# What is forgotten, by one gateway at a time.
ONE_FORGETS = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 3))"
FORGOTTEN = "SELECT sums FROM polysilicon_forgotten WHERE run = %s"
KEEP_FORGOTTEN = """
INSERT INTO polysilicon_forgotten (run, sums) VALUES (%s, %s)
ON CONFLICT (run) DO UPDATE SET sums = EXCLUDED.sums
"""
OLDEST = """
SELECT seq, record FROM polysilicon_step AS s WHERE run = %s AND seq > %s AND result IS NOT NULL
AND NOT EXISTS (
    SELECT 1 FROM polysilicon_asked AS a
    WHERE a.run = s.run AND a.task_id = s.task_id AND a.ended IS NULL
) ORDER BY seq LIMIT %s
"""
FORGET_STEPS = "DELETE FROM polysilicon_step WHERE run = %s AND seq = ANY(%s::int8[])"
FORGET_ASKED = """
WITH old AS (
    DELETE FROM polysilicon_asked WHERE run = %s AND task_id IN (
        SELECT task_id FROM polysilicon_asked
        WHERE run = %s AND ended IS NOT NULL AND ended_at < %s LIMIT %s
    ) RETURNING run, task_id
)
DELETE FROM polysilicon_task AS t USING old
WHERE t.run = old.run AND t.task_id = old.task_id AND t.record IS NOT NULL RETURNING t.task_id
"""
