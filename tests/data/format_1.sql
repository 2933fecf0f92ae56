CREATE TYPE fuel AS ENUM ('petrol', 'diesel');
CREATE TABLE vehicles (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, kind fuel);
INSERT INTO vehicles (name, kind) SELECT 'vehicle ' || n, 'petrol' FROM generate_series(1, 100) n;
CREATE TABLE "Fuel; logs" (vehicle integer REFERENCES vehicles, "at" date, litres numeric(8, 3), note text,
    PRIMARY KEY (vehicle, "at"));
INSERT INTO "Fuel; logs" VALUES (1, '2024-05-01', 41.5, E'tab\t, line\n, backslash \\.'), (2, '2024-05-02', 0.001, NULL),
    (3, '2024-05-03', 99999.999, 'é 表 🚗 \.');
CREATE INDEX by_date ON "Fuel; logs" ("at" DESC);
CREATE TABLE empty (id bigserial PRIMARY KEY, data bytea, more jsonb DEFAULT '{}');
SELECT setval('empty_id_seq', 41);
CREATE FUNCTION total(of integer) RETURNS numeric LANGUAGE sql STABLE
    AS $$ SELECT sum(litres) FROM public."Fuel; logs" WHERE vehicle = $1; $$;
CREATE VIEW thirsty AS SELECT name, total(id) AS litres FROM vehicles WHERE total(id) > 1;
SELECT lo_from_bytea(70001, 'a large object');
COMMENT ON TABLE vehicles IS 'what people drive';
