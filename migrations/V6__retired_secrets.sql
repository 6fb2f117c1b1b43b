-- What is sealed with a retired master secret is refused as before, and now so that the node can tell: not a defect, but something to
-- be tried again once the replica knows which secret seals.
CREATE OR REPLACE FUNCTION refuse_retired_secret() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM master_secrets WHERE key_id = substring(NEW.sealed_key FROM 2 FOR 8) AND state = 'retired') THEN
        RAISE EXCEPTION 'sealed with a master secret that is retired' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN NEW;
END $$;
