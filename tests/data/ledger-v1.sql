-- A ledger as version 1 wrote it.
PRAGMA application_id = 1936027764;
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
BEGIN TRANSACTION;
CREATE TABLE audit (
        seq INTEGER PRIMARY KEY, time REAL NOT NULL, event TEXT NOT NULL, fields TEXT NOT NULL,
        previous TEXT NOT NULL, digest TEXT NOT NULL);
INSERT INTO "audit" VALUES(1,1.79546710247184514996e+09,'realm.add','{"code":"c3","gid":70003,"realm":"acme"}','0000000000000000000000000000000000000000000000000000000000000000','3c5dbf578ef1c5baf426e0761ed920917ac32f975fed45bf47a50a7f0540c434');
INSERT INTO "audit" VALUES(2,1.79546710247920918461e+09,'realm.add','{"code":"c4","gid":70004,"realm":"bolt"}','3c5dbf578ef1c5baf426e0761ed920917ac32f975fed45bf47a50a7f0540c434','c82968fcf05a84c142769076b4762bfdb909a12f915934791aa0bd7c745433b6');
INSERT INTO "audit" VALUES(3,1.79546710248338198655e+09,'guest.admit','{"claims":[["uuid","00000000-0000-4000-8000-000000000001"],["name","acme/g1"],["code","c3,c300,c302"],["uid","200001"]],"incarnation":1,"level":"s0:c3,c300,c302","name":"g1","realm":"acme","uuid":"00000000-0000-4000-8000-000000000001"}','c82968fcf05a84c142769076b4762bfdb909a12f915934791aa0bd7c745433b6','667260e2ade6f792ea625925468386de75bfda6219a87d83ac66767ae0c14936');
INSERT INTO "audit" VALUES(4,1.79546710248381209372e+09,'guest.begin','{"incarnation":1,"level":"s0:c3,c300,c302","name":"g1","objects":[["/vm/a.img","rw","exclusive"],["/vm/base.img","ro","shared"]],"realm":"acme","uuid":"00000000-0000-4000-8000-000000000001"}','667260e2ade6f792ea625925468386de75bfda6219a87d83ac66767ae0c14936','023b147808e0528649d85f0f318c55ae9410365eec9e1914ad3eb177ce4a5c87');
INSERT INTO "audit" VALUES(5,1.79546710248709511762e+09,'guest.run','{"incarnation":1,"level":"s0:c3,c300,c302","name":"g1","pid":4711,"realm":"acme","started":12345,"uuid":"00000000-0000-4000-8000-000000000001"}','023b147808e0528649d85f0f318c55ae9410365eec9e1914ad3eb177ce4a5c87','d3efd3d5e291816b6b99a7e289f506d7d8b81210fd5b3b2ac4340ba62a8ecd3c');
INSERT INTO "audit" VALUES(6,1.79546710248731565475e+09,'guest.admit','{"claims":[["uuid","00000000-0000-4000-8000-000000000002"],["name","bolt/g2"],["code","c3,c300,c303"],["uid","200002"]],"incarnation":1,"level":"s0:c3,c300,c303","name":"g2","realm":"bolt","uuid":"00000000-0000-4000-8000-000000000002"}','d3efd3d5e291816b6b99a7e289f506d7d8b81210fd5b3b2ac4340ba62a8ecd3c','b54b6a6974b9b07903a738afc0261d844d1de6b9621db8c16775c2dba9f79b55');
INSERT INTO "audit" VALUES(7,1.7954671024875378609e+09,'guest.begin','{"incarnation":1,"level":"s0:c3,c300,c303","name":"g2","objects":[["/vm/b.img","rw","exclusive"]],"realm":"bolt","uuid":"00000000-0000-4000-8000-000000000002"}','b54b6a6974b9b07903a738afc0261d844d1de6b9621db8c16775c2dba9f79b55','ce9a1df68c00d951cfe5ce4495036a34af8aa4654a4ccb74e6455b127e62e6b1');
INSERT INTO "audit" VALUES(8,1.79546710249103736879e+09,'guest.end','{"before":"starting","incarnation":1,"level":"s0:c3,c300,c303","name":"g2","realm":"bolt","state":"ending","uuid":"00000000-0000-4000-8000-000000000002"}','ce9a1df68c00d951cfe5ce4495036a34af8aa4654a4ccb74e6455b127e62e6b1','c178f43696c05408cdb4a7eeca4fb5c7b41ad3b489d84e805349945fdae573f0');
INSERT INTO "audit" VALUES(9,1.79546710249166345594e+09,'object.foreign','{"entry":3,"op":"own","owner":"00000000-0000-4000-8000-000000000002","path":"/vm/b.img"}','c178f43696c05408cdb4a7eeca4fb5c7b41ad3b489d84e805349945fdae573f0','52776f6ce7711f4ed3ac23c388f671149332a6fa1b70d3df356f468a2006518d');
CREATE TABLE audit_head (
        one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, digest TEXT NOT NULL);
INSERT INTO "audit_head" VALUES(1,9,'52776f6ce7711f4ed3ac23c388f671149332a6fa1b70d3df356f468a2006518d');
CREATE TABLE belongings (
        key TEXT PRIMARY KEY, realm TEXT NOT NULL REFERENCES realms (name), guest TEXT NOT NULL,
        path TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE claims (
        kind TEXT NOT NULL, key TEXT NOT NULL,
        guest TEXT REFERENCES guests (uuid), realm TEXT REFERENCES realms (name),
        PRIMARY KEY (kind, key), CHECK ((guest IS NULL) <> (realm IS NULL))) WITHOUT ROWID;
INSERT INTO "claims" VALUES('code','c3,c300,c302','00000000-0000-4000-8000-000000000001',NULL);
INSERT INTO "claims" VALUES('code','c3,c300,c303','00000000-0000-4000-8000-000000000002',NULL);
INSERT INTO "claims" VALUES('gid','70003',NULL,'acme');
INSERT INTO "claims" VALUES('gid','70004',NULL,'bolt');
INSERT INTO "claims" VALUES('name','acme/g1','00000000-0000-4000-8000-000000000001',NULL);
INSERT INTO "claims" VALUES('name','bolt/g2','00000000-0000-4000-8000-000000000002',NULL);
INSERT INTO "claims" VALUES('realm','acme',NULL,'acme');
INSERT INTO "claims" VALUES('realm','bolt',NULL,'bolt');
INSERT INTO "claims" VALUES('realm-code','c3',NULL,'acme');
INSERT INTO "claims" VALUES('realm-code','c4',NULL,'bolt');
INSERT INTO "claims" VALUES('uid','200001','00000000-0000-4000-8000-000000000001',NULL);
INSERT INTO "claims" VALUES('uid','200002','00000000-0000-4000-8000-000000000002',NULL);
INSERT INTO "claims" VALUES('uuid','00000000-0000-4000-8000-000000000001','00000000-0000-4000-8000-000000000001',NULL);
INSERT INTO "claims" VALUES('uuid','00000000-0000-4000-8000-000000000002','00000000-0000-4000-8000-000000000002',NULL);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "counters" VALUES('uid',1);
CREATE TABLE guests (
        uuid TEXT PRIMARY KEY, incarnation INTEGER NOT NULL, name TEXT NOT NULL,
        realm TEXT NOT NULL REFERENCES realms (name),
        state TEXT NOT NULL CHECK (state IN ('admitted', 'starting', 'running', 'ending', 'stuck')),
        categories TEXT NOT NULL, level TEXT NOT NULL, uid INTEGER NOT NULL, drivers TEXT NOT NULL,
        boot_id TEXT NOT NULL, pid INTEGER NOT NULL, started INTEGER NOT NULL, since REAL NOT NULL,
        argv TEXT NOT NULL, details TEXT NOT NULL,
        UNIQUE (name, realm));
INSERT INTO "guests" VALUES('00000000-0000-4000-8000-000000000001',1,'g1','acme','running','[3,300,302]','s0:c3,c300,c302',200001,'["selinux","landlock"]','boot',4711,12345,1700000000.25,'["qemu","-name","a b","\udcff"]','{"deep":{"list":[1,2.5,null,true,"\u00fc"]}}');
INSERT INTO "guests" VALUES('00000000-0000-4000-8000-000000000002',1,'g2','bolt','stuck','[3,300,303]','s0:c3,c300,c303',200002,'["selinux","landlock"]','boot',17,99,1700000000.25,'["qemu","-name","a b","\udcff"]','{"deep":{"list":[1,2.5,null,true,"\u00fc"]}}');
CREATE TABLE holds (
        key TEXT NOT NULL, guest TEXT NOT NULL REFERENCES guests (uuid), path TEXT NOT NULL,
        exclusive INTEGER NOT NULL CHECK (exclusive IN (0, 1)), access TEXT NOT NULL CHECK (access IN ('ro', 'rw')),
        PRIMARY KEY (key, guest)) WITHOUT ROWID;
INSERT INTO "holds" VALUES('f:1','00000000-0000-4000-8000-000000000001','/vm/a.img',1,'rw');
INSERT INTO "holds" VALUES('f:2','00000000-0000-4000-8000-000000000001','/vm/base.img',0,'ro');
INSERT INTO "holds" VALUES('f:9','00000000-0000-4000-8000-000000000002','/vm/b.img',1,'rw');
CREATE TABLE incarnations (uuid TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "incarnations" VALUES('00000000-0000-4000-8000-000000000001',1);
INSERT INTO "incarnations" VALUES('00000000-0000-4000-8000-000000000002',1);
CREATE TABLE journal (
        id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, shared INTEGER NOT NULL CHECK (shared IN (0, 1)),
        op TEXT NOT NULL, key TEXT NOT NULL, path TEXT NOT NULL, args TEXT NOT NULL, original TEXT NOT NULL,
        outcome TEXT NOT NULL CHECK (outcome IN ('', 'restored', 'untouched', 'foreign', 'gone')));
INSERT INTO "journal" VALUES(1,'00000000-0000-4000-8000-000000000001',0,'own','key of /vm/a.img','/vm/a.img','{"uid":5}','{"acl":"","uid":0}','');
INSERT INTO "journal" VALUES(2,'f:2',1,'own','key of /vm/base.img','/vm/base.img','{"uid":5}','{"acl":"","uid":0}','');
INSERT INTO "journal" VALUES(3,'00000000-0000-4000-8000-000000000002',0,'own','key of /vm/b.img','/vm/b.img','{"uid":5}','{"acl":"","uid":0}','foreign');
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('identity','9c0f8c5f6ad7b5f4fe6cb8bd0a5e4a11');
INSERT INTO "meta" VALUES('secret','1783d07402fece7435b148cf124a8047ba3dcdf77cc3d75fd69e2d5af1a2f98d');
CREATE TABLE realms (
        name TEXT PRIMARY KEY, categories TEXT NOT NULL, gid INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "realms" VALUES('acme','[3]',70003);
INSERT INTO "realms" VALUES('bolt','[4]',70004);
CREATE INDEX guests_state ON guests (state);
CREATE INDEX claims_guest ON claims (guest);
CREATE INDEX holds_guest ON holds (guest);
CREATE UNIQUE INDEX holds_exclusive ON holds (key) WHERE exclusive = 1;
CREATE INDEX journal_owner ON journal (owner);
CREATE INDEX journal_shared ON journal (owner) WHERE shared = 1;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('journal',3);
COMMIT;
