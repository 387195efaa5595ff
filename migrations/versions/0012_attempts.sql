-- The message that an attempt was made with: the webhook-id that the receiver saw, also after the notification has left
-- with another one. Attempts of before have none.
ALTER TABLE delivery_attempts ADD COLUMN message_id uuid;
